// The first block of a network: a 3x3 convolution of images of few channels, with the norm, ReLU and
// pooling of block.h behind it; its gradients and their tangents.
//
// The convolution has few multiplications and a large output. So its output u, and u_bar, exist for
// one image and one vector of channels at a time, in a core's cache, and each kernel computes them
// anew. Sums have a fixed order, so results do not depend on the number of threads.
//
// N images, K image channels, C channels out; x (N, H+2, W+2, K) in a frame of zeros, taps (9K, C),
// y (N, H/2, W/2, C).

#include "block.h"

enum { MOST_CHANNELS = 3 };  // K of the gradients, as in first.py
enum { PIXELS = 8 };         // of a row that are computed at once; their sums fit 16 registers

INLINE Int framed_size(const Shape *s, Int K) { return (s->height + 2) * (s->width + 2) * K; }

// u at `count` pixels of a row, a constant. `window` is the first pixel's upper left neighbour.
INLINE void convolve_pixels(
    const int lanes, const int count, Int line, Int K, const Real *window, const Real *taps,
    Int C, Real *u, Int stride)
{
    Vector sum[PIXELS] = {0};
    for (Int i = 0; i < 3; i++)
        for (Int k = 0; k < K; k++) {
            Vector w[3];
            UNROLL for (int j = 0; j < 3; j++) w[j] = load(taps + ((3 * i + j) * K + k) * C, lanes);
            UNROLL for (int q = 0; q < count + 2; q++) {
                const Real one = window[i * line + q * K + k];
                UNROLL for (int j = 0; j < 3; j++)
                    if (q >= j && q - j < count) sum[q - j] += one * w[j];
            }
        }
    UNROLL for (int p = 0; p < count; p++) store(u + p * stride, sum[p], LANES);
}

// u (H, W, LANES) of an image, pixels `stride` apart.
INLINE void convolve_image(
    const Shape *s, const int lanes, Int K, const Real *x, const Real *taps, Real *u, Int stride)
{
    const Int line = (s->width + 2) * K, C = s->channels;
    for (Int row = 0; row < s->height; row++, x += line) {
        Int column = 0;
        for (; column + PIXELS <= s->width; column += PIXELS, u += PIXELS * stride)
            convolve_pixels(lanes, PIXELS, line, K, x + column * K, taps, C, u, stride);
        for (; column < s->width; column++, u += stride)
            convolve_pixels(lanes, 1, line, K, x + column * K, taps, C, u, stride);
    }
}

// weight_bar (9, K, C) of an image from u_bar (H, W, LANES), pixels `stride` apart.
INLINE void taps_gradient(
    const Shape *s, const int lanes, const int K, const Real *x, const Real *u_bar, Int stride,
    Real *weight_bar)
{
    const Int line = (s->width + 2) * K, C = s->channels;
    for (Int i = 0; i < 3; i++) {
        Vector sum[3 * MOST_CHANNELS] = {0};
        const Real *bar = u_bar;
        for (Int row = 0; row < s->height; row++)
            for (Int column = 0; column < s->width; column++, bar += stride) {
                const Vector here = load(bar, LANES);
                const Real *window = x + (row + i) * line + column * K;
                UNROLL for (int j = 0; j < 3 * K; j++) sum[j] += here * window[j];
            }
        UNROLL for (int j = 0; j < 3 * K; j++)
            store(weight_bar + (3 * K * i + j) * C, sum[j], lanes);
    }
}
#define TAPS_GRADIENT(lanes, ...)                                 \
    {                                                             \
        if (K == 1) taps_gradient(s, lanes, 1, __VA_ARGS__);      \
        else if (K == 2) taps_gradient(s, lanes, 2, __VA_ARGS__); \
        else taps_gradient(s, lanes, 3, __VA_ARGS__);             \
    }

// The gradient over the images is a product of u_bar with the taps, to columns (H, W, COLUMNS), which
// are then folded: the K numbers at (3i + j) K of a pixel belong to its neighbour at (i - 1, j - 1).
// Of x_bar (H, W, FOLD) the first K channels are used.
enum { COLUMNS = 32, PARTS = COLUMNS / LANES, ROWS = LANES > 8 ? LANES / 2 : LANES > 4 ? 2 : 1 };
enum { FOLD = 4 };
typedef Real Pixel __attribute__((vector_size(FOLD * sizeof(Real)), aligned(sizeof(Real))));

// Adds the columns of u_bar by taps (C, COLUMNS), or with taps_dot those of its derivative, to which
// u_bar_dot lies beside u_bar.
INLINE void add_columns(
    const int lanes, Int pixels, const Real *bars, Int stride, const Real *taps,
    const Real *taps_dot, Real *columns)
{
    for (Int p = 0; p < pixels; p += ROWS, bars += stride * ROWS, columns += COLUMNS * ROWS) {
        Vector sum[ROWS][PARTS];
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int h = 0; h < PARTS; h++)
                sum[r][h] = load(columns + r * COLUMNS + h * LANES, LANES);
        for (int c = 0; c < lanes; c++) {
            Vector w[PARTS], w_dot[PARTS];
            UNROLL for (int h = 0; h < PARTS; h++) {
                w[h] = load(taps + c * COLUMNS + h * LANES, LANES);
                if (taps_dot) w_dot[h] = load(taps_dot + c * COLUMNS + h * LANES, LANES);
            }
            UNROLL for (int r = 0; r < ROWS; r++) {
                const Real bar = bars[stride * r + c];
                const Real bar_dot = taps_dot ? bars[stride * r + LANES + c] : 0;
                UNROLL for (int h = 0; h < PARTS; h++)
                    sum[r][h] += taps_dot ? bar_dot * w[h] + bar * w_dot[h] : bar * w[h];
            }
        }
        UNROLL for (int r = 0; r < ROWS; r++)
            UNROLL for (int h = 0; h < PARTS; h++)
                store(columns + r * COLUMNS + h * LANES, sum[r][h], LANES);
    }
}

INLINE void fold_row(const Shape *s, Int K, Int row, const Real *columns, Real *x_bar) {
    const Int width = s->width, up = row + 1 < s->height, down = row > 0;
    for (Int column = 0; column < width; column++) {
        Pixel sum = {0};
        for (Int i = 1 - up; i < 2 + down; i++)
            for (Int j = column + 1 == width; j < 2 + (column > 0); j++) {
                const Int from = (row + 1 - i) * width + column + 1 - j;
                sum += *(const Pixel *)(columns + from * COLUMNS + (3 * i + j) * K);
            }
        *(Pixel *)(x_bar + (row * width + column) * FOLD) = sum;
    }
}

void first_forward(
    const Shape *s, Int K, const Real *x, const Real *taps, const Real *gamma, const Real *beta,
    Real *y, Real *stats)
{
#define ONE(lanes)                                                                        \
    Real *u = scratch(0, pixels * LANES);                                                 \
    convolve_image(s, lanes, K, x + image * framed_size(s, K), taps + first, u, LANES);   \
    forward_group(s, lanes, u, LANES, gamma + first, beta + first, y + y_at, stats + at);
    FOR_EACH_GROUP(ONE)
#undef ONE
}

void first_tangent_forward(
    const Shape *s, Int K, const Real *x, const Real *taps, const Real *taps_dot,
    const Real *gamma, const Real *beta, const Real *gamma_dot, const Real *beta_dot, Real *y,
    Real *y_dot, Real *stats)
{
#define ONE(lanes)                                                                        \
    Real *u = scratch(0, pixels * 2 * LANES), *u_dot = u + LANES;                         \
    const Real *framed = x + image * framed_size(s, K);                                   \
    convolve_image(s, lanes, K, framed, taps + first, u, 2 * LANES);                      \
    convolve_image(s, lanes, K, framed, taps_dot + first, u_dot, 2 * LANES);              \
    tangent_forward_group(                                                                \
        s, lanes, u, u_dot, 2 * LANES, 0, gamma + first, beta + first, gamma_dot + first, \
        beta_dot + first, y + y_at, y_dot + y_at, stats + at);
    FOR_EACH_GROUP(ONE)
#undef ONE
}

// Runs `group(lanes)` for every vector of channels of every image, and folds the columns it fills.
// Rows of u and of columns beyond `pixels` are not used.
#define FOR_EACH_IMAGE(span, group)                                                     \
    const Int C = s->channels, pixels = s->height * s->width;                           \
    const Int halved = (s->height / 2) * (s->width / 2);                                \
    const Int rows = (pixels + ROWS - 1) / ROWS * ROWS;                                 \
    _Pragma("omp parallel for schedule(static)")                                        \
    for (Int image = 0; image < s->n; image++) {                                        \
        const Real *framed = x + image * framed_size(s, K);                             \
        Real *u = scratch(0, rows * (span + COLUMNS) ), *columns = u + rows * span;     \
        memset(columns, 0, (x_bar ? rows : 0) * COLUMNS * sizeof(Real));                \
        for (Int first = 0; first < C; first += LANES) {                                \
            const Int at = image * C + first, y_at = image * halved * C + first;        \
            Real *bar = weight_bar ? weight_bar + image * 9 * K * C + first : 0;        \
            if (first + LANES <= C) { group(LANES); } else { group((int)(C - first)); } \
        }                                                                               \
        for (Int row = 0; row < s->height && x_bar; row++)                              \
            fold_row(s, K, row, columns, x_bar + image * pixels * FOLD);                \
    }

// weight_bar (N, 9, K, C) and x_bar (N, H, W, FOLD); either may be NULL, which leaves it out.
// columns_of (C, COLUMNS): the taps of each output channel, and zeros.
void first_backward(
    const Shape *s, Int K, const Real *x, const Real *taps, const Real *columns_of,
    const Real *gamma, const Real *beta, const Real *stats, const Real *y_bar, Real *params_bar,
    Real *weight_bar, Real *x_bar)
{
#define ONE(lanes)                                                                           \
    convolve_image(s, lanes, K, framed, taps + first, u, LANES);                             \
    backward_group(                                                                          \
        s, lanes, u, LANES, gamma + first, beta + first, stats + at, y_bar + y_at, u,        \
        params_bar + at);                                                                    \
    if (bar) TAPS_GRADIENT(lanes, framed, u, LANES, bar)                                     \
    if (x_bar) add_columns(lanes, rows, u, LANES, columns_of + first * COLUMNS, 0, columns);
    FOR_EACH_IMAGE(LANES, ONE)
#undef ONE
}

void first_tangent_backward(
    const Shape *s, Int K, const Real *x, const Real *taps, const Real *taps_dot,
    const Real *columns_of, const Real *columns_dot, const Real *gamma, const Real *beta,
    const Real *gamma_dot, const Real *stats, const Real *y_bar_pair, const Real *y_bar_extra,
    Real *params_bar_dot, Real *weight_bar, Real *x_bar)
{
#define ONE(lanes)                                                                          \
    convolve_image(s, lanes, K, framed, taps + first, u, 2 * LANES);                        \
    convolve_image(s, lanes, K, framed, taps_dot + first, u + LANES, 2 * LANES);            \
    tangent_backward_group(                                                                 \
        s, lanes, u, u + LANES, 2 * LANES, gamma + first, beta + first, gamma_dot + first,  \
        stats + at, y_bar_pair + 2 * y_at - first, y_bar_extra ? y_bar_extra + y_at : 0, u, \
        u + LANES, 2 * LANES, params_bar_dot + at);                                         \
    if (bar) TAPS_GRADIENT(lanes, framed, u + LANES, 2 * LANES, bar)                        \
    add_columns(                                                                            \
        lanes, rows, u, 2 * LANES, columns_of + first * COLUMNS,                            \
        columns_dot + first * COLUMNS, columns);
    FOR_EACH_IMAGE(2 * LANES, ONE)
#undef ONE
}
