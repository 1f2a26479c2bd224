// Instance norm, ReLU and 2x2 average pooling as one operation, its gradient and their tangents.
//
//   n = (u - mean) r,  r = 1/sqrt(var + eps),  a = gamma n + beta,  y = pool(max(a, 0))
//
// with mean and var per image and channel. `_dot` marks the derivative along a direction, `_bar` a
// gradient. Arrays are channels-last: u (N, H, W, C), y (N, H/2, W/2, C). An odd last row or column
// is part of the norm but not of the pooling. A piece of work is one image and one vector of
// channels, which stays in a core's cache. Sums run over pixels in a fixed order, so results do not
// depend on the number of threads.

#include <math.h>
#include <string.h>

#include "scratch.h"

typedef Bits Mask __attribute__((vector_size(WIDTH)));
typedef struct { Int n, height, width, channels; double eps; } Shape;

static const Real zeros[LANES];
enum { MOST_FIRST = 3 };  // image channels that the kernels of the first block take, as in fused.py

// `lanes` is LANES, a constant that makes these single moves, or the number of channels left.
INLINE Vector load(const Real *from, const int lanes) {
    Vector v = {0};
    memcpy(&v, from, lanes * sizeof(Real));
    return v;
}
INLINE void store(Real *to, Vector v, const int lanes) { memcpy(to, &v, lanes * sizeof(Real)); }
INLINE Vector where_positive(Vector test, Vector value) {
    return (Vector)((Mask)value & ~(test <= 0));  // also where `test` is NaN
}

INLINE Vector inverse_root(Vector variance, double eps) {
    for (int c = 0; c < LANES; c++) variance[c] = (Real)(1 / sqrt(variance[c] + eps));
    return variance;
}

// The pooled pixel of a pixel, or zeros if it has none.
INLINE const Real *pooled(const Shape *s, const Real *y, Int row, Int column, Int stride) {
    Int half = s->width / 2;
    return y && row / 2 < s->height / 2 && column / 2 < half
        ? y + (row / 2 * half + column / 2) * stride : zeros;
}

// Runs `one(lanes)` for every image and vector of channels. `at` is the place in arrays (N, C).
#define FOR_EACH_GROUP(one)                                                               \
    const Int C = s->channels, groups = (C + LANES - 1) / LANES;                          \
    const Int pixels = s->height * s->width, halved = (s->height / 2) * (s->width / 2);   \
    _Pragma("omp parallel for schedule(static)")                                          \
    for (Int i = 0; i < s->n * groups; i++) {                                             \
        const Int image = i / groups, first = i % groups * LANES, at = image * C + first; \
        const Int u_at = image * pixels * C + first, y_at = image * halved * C + first;   \
        if (first + LANES <= C) one(LANES); else one((int)(C - first));                   \
    }

INLINE void forward_group(
    const Shape *s, const int lanes, const Real *u, const Real *gamma, const Real *beta, Real *y,
    Real *stats)
{
    const Int C = s->channels, pixels = s->height * s->width, half = s->width / 2;
    const Real count = pixels;
    Vector mean = {0}, variance = {0};
    for (Int p = 0; p < pixels; p++) mean += load(u + p * C, lanes);
    mean /= count;
    for (Int p = 0; p < pixels; p++) {
        Vector d = load(u + p * C, lanes) - mean;
        variance += d * d;
    }
    Vector r = inverse_root(variance / count, s->eps);
    store(stats, mean, lanes), store(stats + s->n * C, r, lanes);
    Vector scale = load(gamma, lanes) * r, shift = load(beta, lanes) - mean * scale;
    for (Int row = 0; row < s->height / 2; row++)
        for (Int column = 0; column < half; column++) {
            Vector sum = {0};
            for (int k = 0; k < 4; k++) {
                const Real *here = u + ((2 * row + k / 2) * s->width + 2 * column + k % 2) * C;
                Vector a = load(here, lanes) * scale + shift;
                sum += where_positive(a, a);
            }
            store(y + (row * half + column) * C, sum / 4, lanes);
        }
}

INLINE void backward_group(
    const Shape *s, const int lanes, const Real *u, const Real *gamma, const Real *beta,
    const Real *stats, const Real *y_bar, Real *u_bar, Real *params_bar)
{
    const Int C = s->channels;
    const Real count = s->height * s->width;
    const Vector mean = load(stats, lanes), r = load(stats + s->n * C, lanes);
    const Vector g = load(gamma, lanes), b = load(beta, lanes);
    Vector s0 = {0}, s1 = {0};
#define EACH_PIXEL                                               \
    for (Int row = 0, p = 0; row < s->height; row++)             \
        for (Int column = 0; column < s->width; column++, p++) { \
            Vector n = (load(u + p * C, lanes) - mean) * r;      \
            const Real *bar = pooled(s, y_bar, row, column, C);  \
            Vector a_bar = where_positive(g * n + b, load(bar, lanes)) / 4;
    EACH_PIXEL
        s0 += a_bar, s1 += a_bar * n;
    }
    store(params_bar, s1, lanes), store(params_bar + s->n * C, s0, lanes);
    const Vector m0 = g * s0 / count, m1 = g * s1 / count;
    EACH_PIXEL
        store(u_bar + p * C, r * (g * a_bar - m0 - n * m1), lanes);
    }
}

// `backward` for the first block, which needs no gradient over its input: u_bar goes into the
// gradient of the convolution's weights and not to memory. x (N, H+2, W+2, K) is the block's input
// in a frame of zeros; weight_bar (N, 9, K, C).
INLINE void backward_first_group(
    const Shape *s, const int lanes, const int K, const Real *u, const Real *gamma,
    const Real *beta, const Real *stats, const Real *y_bar, const Real *x, Real *params_bar,
    Real *weight_bar)
{
    const Int C = s->channels, line = (s->width + 2) * K;
    const Real count = s->height * s->width;
    const Vector mean = load(stats, lanes), r = load(stats + s->n * C, lanes);
    const Vector g = load(gamma, lanes), b = load(beta, lanes);
    Vector s0 = {0}, s1 = {0}, weight[9 * MOST_FIRST] = {0};
    EACH_PIXEL
        s0 += a_bar, s1 += a_bar * n;
    }
    store(params_bar, s1, lanes), store(params_bar + s->n * C, s0, lanes);
    const Vector m0 = g * s0 / count, m1 = g * s1 / count;
    EACH_PIXEL
        const Vector u_bar = r * (g * a_bar - m0 - n * m1);
        const Real *window = x + row * line + column * K;
        UNROLL for (int i = 0; i < 3; i++)
            UNROLL for (int j = 0; j < 3 * K; j++)
                weight[3 * K * i + j] += u_bar * window[i * line + j];
    }
    for (int k = 0; k < 9 * K; k++) store(weight_bar + k * C, weight[k], lanes);
}
#undef EACH_PIXEL

// u_pair (N, H, W, 2C) holds u and u_dot side by side. u_extra (N, H, W, C), unless NULL, is first
// added to u_dot in place. stats (4, N, C): mean, r, mean of u_dot, mean of n u_dot.
INLINE void tangent_forward_group(
    const Shape *s, const int lanes, Real *u_pair, const Real *u_extra, const Real *gamma,
    const Real *beta, const Real *gamma_dot, const Real *beta_dot, Real *y, Real *y_dot,
    Real *stats)
{
    const Int C = s->channels, NC = s->n * C, pixels = s->height * s->width, half = s->width / 2;
    const Real count = pixels;
    Vector mean = {0}, mean_dot = {0}, variance = {0}, n_u_dot = {0};
    for (Int p = 0; p < pixels; p++) {
        Vector u_dot = load(u_pair + p * 2 * C + C, lanes);
        if (u_extra) {
            u_dot += load(u_extra + p * C, lanes);
            store(u_pair + p * 2 * C + C, u_dot, lanes);
        }
        mean += load(u_pair + p * 2 * C, lanes), mean_dot += u_dot;
    }
    mean /= count, mean_dot /= count;
    for (Int p = 0; p < pixels; p++) {
        Vector d = load(u_pair + p * 2 * C, lanes) - mean;
        variance += d * d, n_u_dot += d * (load(u_pair + p * 2 * C + C, lanes) - mean_dot);
    }
    const Vector r = inverse_root(variance / count, s->eps);
    n_u_dot *= r / count;
    store(stats, mean, lanes), store(stats + NC, r, lanes);
    store(stats + 2 * NC, mean_dot, lanes), store(stats + 3 * NC, n_u_dot, lanes);
    const Vector g = load(gamma, lanes), b = load(beta, lanes);
    const Vector g_dot = load(gamma_dot, lanes), b_dot = load(beta_dot, lanes);
    for (Int row = 0; row < s->height / 2; row++)
        for (Int column = 0; column < half; column++) {
            Vector sum = {0}, sum_dot = {0};
            for (int k = 0; k < 4; k++) {
                const Int at = (2 * row + k / 2) * s->width + 2 * column + k % 2;
                const Real *here = u_pair + at * 2 * C;
                Vector n = (load(here, lanes) - mean) * r;
                Vector n_dot = (load(here + C, lanes) - mean_dot - n * n_u_dot) * r;
                Vector a = g * n + b;
                sum += where_positive(a, a);
                sum_dot += where_positive(a, g * n_dot + g_dot * n + b_dot);
            }
            store(y + (row * half + column) * C, sum / 4, lanes);
            store(y_dot + (row * half + column) * C, sum_dot / 4, lanes);
        }
}

// y_bar_pair (N, H/2, W/2, 2C) holds y_bar and y_bar_dot; y_bar_extra, unless NULL, is added to the
// latter. Pixels of u_bar and u_bar_dot lie `stride` apart.
INLINE void tangent_backward_group(
    const Shape *s, const int lanes, const Real *u_pair, const Real *gamma, const Real *beta,
    const Real *gamma_dot, const Real *stats, const Real *y_bar, const Real *y_bar_extra,
    Real *u_bar, Real *u_bar_dot, Int stride, Real *params_bar_dot)
{
    const Int C = s->channels, NC = s->n * C;
    const Real count = s->height * s->width;
    const Vector mean = load(stats, lanes), r = load(stats + NC, lanes);
    const Vector mean_dot = load(stats + 2 * NC, lanes), n_u_dot = load(stats + 3 * NC, lanes);
    const Vector g = load(gamma, lanes), b = load(beta, lanes), g_dot = load(gamma_dot, lanes);
    Vector s0 = {0}, s1 = {0}, t0 = {0}, t1 = {0};
#define EACH_PIXEL                                                                             \
    for (Int row = 0, p = 0; row < s->height; row++)                                           \
        for (Int column = 0; column < s->width; column++, p++) {                               \
            Vector n = (load(u_pair + p * 2 * C, lanes) - mean) * r;                           \
            Vector n_dot = (load(u_pair + p * 2 * C + C, lanes) - mean_dot - n * n_u_dot) * r; \
            const Real *bar = pooled(s, y_bar, row, column, 2 * C);                            \
            const Real *extra = pooled(s, y_bar_extra, row, column, C);                        \
            const Real *dot = bar == zeros ? zeros : bar + C;                                  \
            Vector bar_dot = load(dot, lanes) + load(extra, lanes), a = g * n + b;             \
            Vector a_bar = where_positive(a, load(bar, lanes)) / 4;                            \
            Vector a_bar_dot = where_positive(a, bar_dot) / 4;
    EACH_PIXEL
        s0 += a_bar, s1 += a_bar * n, t0 += a_bar_dot, t1 += a_bar_dot * n + a_bar * n_dot;
    }
    store(params_bar_dot, t1, lanes), store(params_bar_dot + NC, t0, lanes);
    const Vector m0 = g * s0 / count, m0_dot = (g * t0 + g_dot * s0) / count;
    const Vector m1 = g * s1 / count, m1_dot = (g * t1 + g_dot * s1) / count;
    EACH_PIXEL
        Vector inner = g * a_bar - m0 - n * m1;
        Vector inner_dot = g * a_bar_dot + g_dot * a_bar - m0_dot - n_dot * m1 - n * m1_dot;
        store(u_bar + p * stride, r * inner, lanes);
        store(u_bar_dot + p * stride, r * (inner_dot - r * n_u_dot * inner), lanes);
    }
#undef EACH_PIXEL
}

void forward(
    const Shape *s, const Real *u, const Real *gamma, const Real *beta, Real *y, Real *stats)
{
#define ONE(lanes) \
    forward_group(s, lanes, u + u_at, gamma + first, beta + first, y + y_at, stats + at)
    FOR_EACH_GROUP(ONE)
#undef ONE
}

void backward(
    const Shape *s, const Real *u, const Real *gamma, const Real *beta, const Real *stats,
    const Real *y_bar, Real *u_bar, Real *params_bar)
{
#define ONE(lanes)                                                                               \
    backward_group(                                                                              \
        s, lanes, u + u_at, gamma + first, beta + first, stats + at, y_bar + y_at, u_bar + u_at, \
        params_bar + at)
    FOR_EACH_GROUP(ONE)
#undef ONE
}

void backward_first(
    const Shape *s, Int inputs, const Real *u, const Real *gamma, const Real *beta,
    const Real *stats, const Real *y_bar, const Real *x, Real *params_bar, Real *weight_bar)
{
    const Int x_size = (s->height + 2) * (s->width + 2) * inputs;
#define OF(lanes, K)                                                                  \
    backward_first_group(                                                             \
        s, lanes, K, u + u_at, gamma + first, beta + first, stats + at, y_bar + y_at, \
        x + image * x_size, params_bar + at, weight_bar + image * 9 * K * C + first)
#define ONE(lanes) (inputs == 1 ? OF(lanes, 1) : inputs == 2 ? OF(lanes, 2) : OF(lanes, 3))
    FOR_EACH_GROUP(ONE)
#undef ONE
#undef OF
}

void tangent_forward(
    const Shape *s, Real *u_pair, const Real *u_extra, const Real *gamma, const Real *beta,
    const Real *gamma_dot, const Real *beta_dot, Real *y, Real *y_dot, Real *stats)
{
#define ONE(lanes)                                                                        \
    tangent_forward_group(                                                                \
        s, lanes, u_pair + 2 * u_at - first, u_extra ? u_extra + u_at : 0, gamma + first, \
        beta + first, gamma_dot + first, beta_dot + first, y + y_at, y_dot + y_at, stats + at)
    FOR_EACH_GROUP(ONE)
#undef ONE
}

void tangent_backward(
    const Shape *s, const Real *u_pair, const Real *gamma, const Real *beta, const Real *gamma_dot,
    const Real *stats, const Real *y_bar_pair, const Real *y_bar_extra, Real *u_bar,
    Real *u_bar_dot, Real *params_bar_dot)
{
#define ONE(lanes)                                                                           \
    tangent_backward_group(                                                                  \
        s, lanes, u_pair + 2 * u_at - first, gamma + first, beta + first, gamma_dot + first, \
        stats + at, y_bar_pair + 2 * y_at - first, y_bar_extra ? y_bar_extra + y_at : 0,     \
        u_bar + u_at, u_bar_dot + u_at, C, params_bar_dot + at)
    FOR_EACH_GROUP(ONE)
#undef ONE
}

// The second half of a 3x3 convolution's input gradient, after the product with the weights: x
// (H, W, FOLD), of which the first K channels are used, from columns (H, W, stride). The K numbers at
// (3i + j) K of a pixel belong to its neighbour at (i - 1, j - 1).
enum { FOLD = 4 };
typedef Real Pixel __attribute__((vector_size(FOLD * sizeof(Real)), aligned(sizeof(Real))));

INLINE void fold_row(
    const Shape *s, Int K, Int row, const Real *columns, Int stride, Real *x)
{
    const Int width = s->width, up = row + 1 < s->height, down = row > 0;
    for (Int column = 0; column < width; column++) {
        Pixel sum = {0};
        for (Int i = 1 - up; i < 2 + down; i++)
            for (Int j = column + 1 == width; j < 2 + (column > 0); j++) {
                const Int from = (row + 1 - i) * width + column + 1 - j;
                sum += *(const Pixel *)(columns + from * stride + (3 * i + j) * K);
            }
        *(Pixel *)(x + (row * width + column) * FOLD) = sum;
    }
}

// x (N, H, W, FOLD) from columns (N, H, W, 8K + FOLD).
void fold(const Shape *s, const Real *columns, Real *x) {
    const Int height = s->height, stride = 8 * s->channels + FOLD, pixels = height * s->width;
    _Pragma("omp parallel for schedule(static)")
    for (Int line = 0; line < s->n * height; line++) {
        const Int image = line / height;
        fold_row(s, s->channels, line % height, columns + image * pixels * stride, stride,
            x + image * pixels * FOLD);
    }
}

// The first block's tangents go into the gradients of weights and images, an image at a time, and
// not to memory. `bars` (H, W, 2, LANES) holds u_bar and u_bar_dot of an image and a vector of
// channels; columns (H, W, COLUMNS) are what `fold` takes, from taps and taps_dot (C, COLUMNS).
enum { COLUMNS = 32, PARTS = COLUMNS / LANES, ROWS = LANES > 8 ? LANES / 2 : LANES > 4 ? 2 : 1 };

INLINE void first_weights(
    const Shape *s, const int lanes, const int K, const Real *bars, const Real *x,
    Real *weight_bar)
{
    const Int line = (s->width + 2) * K;
    Vector weight[9 * MOST_FIRST] = {0};
    for (Int row = 0; row < s->height; row++)
        for (Int column = 0; column < s->width; column++, bars += 2 * LANES) {
            const Vector u_bar_dot = load(bars + LANES, LANES);
            const Real *window = x + row * line + column * K;
            UNROLL for (int i = 0; i < 3; i++)
                UNROLL for (int j = 0; j < 3 * K; j++)
                    weight[3 * K * i + j] += u_bar_dot * window[i * line + j];
        }
    for (int k = 0; k < 9 * K; k++) store(weight_bar + k * s->channels, weight[k], lanes);
}

INLINE void first_columns(
    const int lanes, Int pixels, const Real *bars, const Real *taps, const Real *taps_dot,
    Real *columns)
{
    for (Int p = 0; p < pixels; p += ROWS, bars += 2 * LANES * ROWS, columns += COLUMNS * ROWS) {
        Vector sum[ROWS][PARTS];
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int h = 0; h < PARTS; h++)
                sum[r][h] = load(columns + r * COLUMNS + h * LANES, LANES);
        for (int c = 0; c < lanes; c++) {
            Vector w[PARTS], w_dot[PARTS];
            UNROLL for (int h = 0; h < PARTS; h++) {
                w[h] = load(taps + c * COLUMNS + h * LANES, LANES);
                w_dot[h] = load(taps_dot + c * COLUMNS + h * LANES, LANES);
            }
            UNROLL for (int r = 0; r < ROWS; r++) {
                const Real u_bar = bars[2 * LANES * r + c];
                const Real u_bar_dot = bars[2 * LANES * r + LANES + c];
                UNROLL for (int h = 0; h < PARTS; h++)
                    sum[r][h] += u_bar_dot * w[h] + u_bar * w_dot[h];
            }
        }
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int h = 0; h < PARTS; h++)
                store(columns + r * COLUMNS + h * LANES, sum[r][h], LANES);
    }
}

// x (N, H+2, W+2, K) and weight_bar (N, 9, K, C) as in backward_first; weight_bar may be NULL, which
// leaves it out. x_bar (N, H, W, FOLD).
void tangent_backward_first(
    const Shape *s, Int inputs, const Real *u_pair, const Real *gamma, const Real *beta,
    const Real *gamma_dot, const Real *stats, const Real *y_bar_pair, const Real *y_bar_extra,
    const Real *x, const Real *taps, const Real *taps_dot, Real *params_bar_dot,
    Real *weight_bar, Real *x_bar)
{
    const Int C = s->channels, pixels = s->height * s->width;
    const Int halved = (s->height / 2) * (s->width / 2);
    const Int x_size = (s->height + 2) * (s->width + 2) * inputs;
    const Int rows = (pixels + ROWS - 1) / ROWS * ROWS;  // those beyond `pixels` are not used
    _Pragma("omp parallel")
    {
        Real *bars = scratch(0, rows * (2 * LANES + COLUMNS)), *columns = bars + rows * 2 * LANES;
        memset(bars, 0, rows * 2 * LANES * sizeof(Real));
        _Pragma("omp for schedule(static)")
        for (Int image = 0; image < s->n; image++) {
            const Real *window = x + image * x_size;
            memset(columns, 0, rows * COLUMNS * sizeof(Real));
            for (Int first = 0; first < C; first += LANES) {
                const Int at = image * C + first;
                Real *bar = weight_bar ? weight_bar + image * 9 * inputs * C + first : 0;
#define OF(lanes, K) first_weights(s, lanes, K, bars, window, bar)
#define ONE(lanes)                                                                           \
    tangent_backward_group(                                                                  \
        s, lanes, u_pair + image * pixels * 2 * C + first, gamma + first, beta + first,      \
        gamma_dot + first, stats + at, y_bar_pair + image * halved * 2 * C + first,          \
        y_bar_extra ? y_bar_extra + image * halved * C + first : 0, bars, bars + LANES,      \
        2 * LANES, params_bar_dot + at);                                                     \
    if (bar)                                                                                 \
        inputs == 1 ? OF(lanes, 1) : inputs == 2 ? OF(lanes, 2) : OF(lanes, 3);              \
    first_columns(                                                                           \
        lanes, rows, bars, taps + first * COLUMNS, taps_dot + first * COLUMNS, columns);
                if (first + LANES <= C) { ONE(LANES) } else { ONE((int)(C - first)) }
#undef ONE
#undef OF
            }
            for (Int row = 0; row < s->height; row++)
                fold_row(s, inputs, row, columns, COLUMNS, x_bar + image * pixels * FOLD);
        }
    }
}
