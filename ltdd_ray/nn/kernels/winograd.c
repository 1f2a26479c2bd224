// 3x3 convolutions of many channels with a quarter of the multiplications: Winograd's F(4x4, 3x3)
// (Lavin and Gray, 2015).
//
//   y = A^T [(G w G^T) * (B^T x B)] A
//
// for a tile of 4x4 pixels of y, which needs 6x6 pixels of x; * is entry by entry. The 36 entries
// are called points here. At each point the sum over input channels is a matrix product of tiles by
// channels, which takes most of the time. A block of tiles is transformed, multiplied and
// transformed back while it is in a core's cache. The gradient over w is the transpose of the same:
// G^T [sum over tiles of (B^T x B) * (A y_bar A^T)] G. Pixels of a tile beyond the border are read
// as zeros and not written.
//
// N images, K channels in, C channels out; x (N, H, W, K) and y (N, H, W, C) channels-last, taps
// (3x3, K, C), K and C multiples of NARROW. Every sum has a fixed order, so results do not depend on
// the number of threads.

#include <omp.h>
#include <string.h>

#include "scratch.h"

enum { OUT = 4, SIDE = 6, POINTS = SIDE * SIDE, TAPS = 9 };
enum { PANEL = 2 * LANES };                // output channels of a product
enum { NARROW = 32, WIDE = 64 };           // channels of a block of the gradient
#if defined(__AVX512F__) || defined(__aarch64__)
enum { ROWS = 8 };  // of a product, whose ROWS x PANEL sums fit 32 registers
#else
enum { ROWS = 6 };  // or 16
#endif
// The most of a block, to fit a core's second cache; whole products where a block is full.
enum { TILES = 32 / ROWS * ROWS, GRADIENT_TILES = 16 };
typedef struct { Int n, height, width, inputs, outputs; } Shape;
typedef struct { Int image, row, column; } Place;

INLINE Vector load(const Real *from) { Vector v; memcpy(&v, from, sizeof v); return v; }
INLINE void store(Real *to, Vector v) { memcpy(to, &v, sizeof v); }

enum { TRANSFORMED_TAPS, INPUT_POINTS, OUTPUT_POINTS, TAPS_SUM };  // uses of `scratch`

INLINE Int tiles_along(Int size) { return (size + OUT - 1) / OUT; }
INLINE Int tiles_of(const Shape *s) {
    return s->n * tiles_along(s->height) * tiles_along(s->width);
}
INLINE Place place(const Shape *s, Int tile) {
    const Int across = tiles_along(s->width), each = across * tiles_along(s->height);
    return (Place){tile / each, tile % each / across * OUT, tile % across * OUT};
}

// The five matrices on a column of vectors.
INLINE void times_bt(const Vector d[SIDE], Vector v[SIDE]) {
    Vector p = d[4] - 4 * d[2], q = d[3] - 4 * d[1], r = d[4] - d[2], s = 2 * (d[3] - d[1]);
    v[0] = 4 * d[0] - 5 * d[2] + d[4], v[1] = p + q, v[2] = p - q;
    v[3] = r + s, v[4] = r - s, v[5] = 4 * d[1] - 5 * d[3] + d[5];
}
INLINE void times_at(const Vector m[SIDE], Vector y[OUT]) {
    Vector p = m[1] + m[2], q = m[1] - m[2], r = m[3] + m[4], s = m[3] - m[4];
    y[0] = m[0] + p + r, y[1] = q + 2 * s, y[2] = p + 4 * r, y[3] = q + 8 * s + m[5];
}
INLINE void times_a(const Vector y[OUT], Vector m[SIDE]) {
    Vector p = y[0] + y[2], q = y[1] + y[3], r = y[0] + 4 * y[2], s = 2 * (y[1] + 4 * y[3]);
    m[0] = y[0], m[1] = p + q, m[2] = p - q, m[3] = r + s, m[4] = r - s, m[5] = y[3];
}
INLINE void times_g(const Vector w[3], Vector u[SIDE]) {
    Vector p = w[0] + w[2], r = w[0] + 4 * w[2], s = 2 * w[1];
    u[0] = w[0] / 4, u[1] = (p + w[1]) / -6, u[2] = (p - w[1]) / -6;
    u[3] = (r + s) / 24, u[4] = (r - s) / 24, u[5] = w[2];
}
INLINE void times_gt(const Vector u[SIDE], Vector w[3]) {
    Vector p = (u[1] + u[2]) / -6, q = (u[1] - u[2]) / -6;
    Vector r = (u[3] + u[4]) / 24, s = (u[3] - u[4]) / 24;
    w[0] = u[0] / 4 + p + r, w[1] = q + 2 * s, w[2] = p + 4 * r + u[5];
}

// A two-dimensional transform: `from` reads entry (i, j) of R x R, `to` writes that of S x S.
#define TRANSFORM(times, R, S, from, to)                          \
    Vector half[S][R];                                            \
    for (int j = 0; j < R; j++) {                                 \
        Vector before[R], after[S];                               \
        UNROLL for (int i = 0; i < R; i++) before[i] = from;      \
        times(before, after);                                     \
        UNROLL for (int i = 0; i < S; i++) half[i][j] = after[i]; \
    }                                                             \
    for (int i = 0; i < S; i++) {                                 \
        Vector after[S];                                          \
        times(half[i], after);                                    \
        UNROLL for (int j = 0; j < S; j++) to;                    \
    }

// x or y at pixel (i, j) of a tile, or zeros beyond the border.
INLINE Vector pixel(const Shape *s, Place at, const Real *image, Int channels, int i, int j) {
    const Int row = at.row + i, column = at.column + j;
    const int inside = row >= 0 && row < s->height && column >= 0 && column < s->width;
    return inside ? load(image + ((at.image * s->height + row) * s->width + column) * channels)
                  : (Vector){0};
}

// Each of these transforms LANES channels of a tile; points lie `stride` apart.
INLINE void input_to_points(const Shape *s, Place at, const Real *x, Real *v, Int stride) {
    TRANSFORM(times_bt, SIDE, SIDE, pixel(s, at, x, s->inputs, i - 1, j - 1),
        store(v + (i * SIDE + j) * stride, after[j]))
}
INLINE void gradient_to_points(const Shape *s, Place at, const Real *y_bar, Real *m, Int stride) {
    TRANSFORM(times_a, OUT, SIDE, pixel(s, at, y_bar, s->outputs, i, j),
        store(m + (i * SIDE + j) * stride, after[j]))
}
INLINE void taps_to_points(const Real *taps, Int tap, Real *u, Int stride) {
    TRANSFORM(times_g, 3, SIDE, load(taps + (i * 3 + j) * tap),
        store(u + (i * SIDE + j) * stride, after[j]))
}
INLINE void points_to_taps(const Real *u, Int stride, Real *taps, Int tap) {
    TRANSFORM(times_gt, SIDE, 3, load(u + (i * SIDE + j) * stride),
        store(taps + (i * 3 + j) * tap, after[j]))
}
INLINE void points_to_output(
    const Shape *s, Place at, const Real *m, Int stride, Real *y, Int channels)
{
    y += ((at.image * s->height + at.row) * s->width + at.column) * channels;
    const Int below = s->height - at.row, beside = s->width - at.column;
    TRANSFORM(times_at, SIDE, OUT, load(m + (i * SIDE + j) * stride),
              if (i < below && j < beside) store(y + (i * s->width + j) * channels, after[j]))
}

// c (ROWS, PANEL) = sum over k of a[row, k] b[k], plus c if `add`; prefetches `next`.
INLINE void product(
    const Real *a, Int a_row, Int a_k, const Real *b, Int b_k, Int count, Real *c, Int c_row,
    const int add, const Real *next)
{
    Vector sum[ROWS][2];
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int h = 0; h < 2; h++)
            sum[r][h] = add ? load(c + r * c_row + h * LANES) : (Vector){0};
    for (Int k = 0; k < count; k++) {
        const Vector b0 = load(b + k * b_k), b1 = load(b + k * b_k + LANES);
        __builtin_prefetch(next + k * LANES);
        UNROLL for (int r = 0; r < ROWS; r++) {
            const Real one = a[r * a_row + k * a_k];
            sum[r][0] += one * b0, sum[r][1] += one * b1;
        }
    }
    UNROLL for (int r = 0; r < ROWS; r++)
        UNROLL for (int h = 0; h < 2; h++) store(c + r * c_row + h * LANES, sum[r][h]);
}

// u (C/PANEL, POINTS, K, PANEL)
static void all_taps_to_points(const Shape *s, const Real *taps, Real *u) {
    const Int K = s->inputs, C = s->outputs;
    _Pragma("omp parallel for schedule(static)")
    for (Int item = 0; item < C / PANEL * K; item++) {
        const Int panel = item / K, k = item % K;
        for (Int c = 0; c < PANEL; c += LANES)
            taps_to_points(taps + k * C + panel * PANEL + c, K * C,
                u + (panel * POINTS * K + k) * PANEL + c, K * PANEL);
    }
}

// y (N, H, W, C) = taps * x. With taps_dot y (N, H, W, 2C) also holds its tangent taps_dot * x,
// plus taps * x_dot with x_dot.
void convolve(
    const Shape *s, const Real *x, const Real *x_dot, const Real *taps, const Real *taps_dot,
    Real *y)
{
    const Int K = s->inputs, C = s->outputs, tiles = tiles_of(s);
    const Int panels = C / PANEL, all_panels = taps_dot ? 2 * panels : panels;
    // Without the LANES more all points would fall into one set of the cache.
    const Int v_stride = TILES * K + LANES, m_stride = TILES * PANEL + LANES;
    // A thread's share of the tiles; a block is no larger.
    const Int share = (tiles / omp_get_max_threads() + ROWS - 1) / ROWS * ROWS;
    const Int block = share < ROWS ? ROWS : share > TILES ? TILES : share;
    Real *u = scratch(TRANSFORMED_TAPS, all_panels * POINTS * K * PANEL);
    all_taps_to_points(s, taps, u);
    if (taps_dot) all_taps_to_points(s, taps_dot, u + panels * POINTS * K * PANEL);
    _Pragma("omp parallel")
    {
        Real *v = scratch(INPUT_POINTS, (x_dot ? 2 : 1) * POINTS * v_stride);
        Real *v_dot = v + POINTS * v_stride;
        Real *m = scratch(OUTPUT_POINTS, POINTS * m_stride);
        _Pragma("omp for schedule(static)")
        for (Int first = 0; first < tiles; first += block) {
            const Int count = tiles - first < block ? tiles - first : block;
            for (Int t = 0; t < count; t++)
                for (Int k = 0; k < K; k += LANES) {
                    const Place at = place(s, first + t);
                    input_to_points(s, at, x + k, v + t * K + k, v_stride);
                    if (x_dot) input_to_points(s, at, x_dot + k, v_dot + t * K + k, v_stride);
                }
            for (Int panel = 0; panel < all_panels; panel++) {
                for (Int p = 0; p < POINTS; p++)
                    // Rows beyond `count` are undefined, and their results are not stored.
                    for (Int t = 0; t < count; t += ROWS) {
                        const Int ahead = K * PANEL + t / ROWS % 2 * K * LANES;
                        const Real *here = u + (panel * POINTS + p) * K * PANEL;
                        const Real *for_dot = here - panels * POINTS * K * PANEL;
                        const Int from = p * v_stride + t * K;
                        Real *to = m + p * m_stride + t * PANEL;
                        product(v + from, K, 1, here, PANEL, K, to, PANEL, 0, here + ahead);
                        if (x_dot && panel >= panels)
                            product(
                                v_dot + from, K, 1, for_dot, PANEL, K, to, PANEL, 1,
                                for_dot + ahead);
                    }
                for (Int t = 0; t < count; t++)
                    for (Int c = 0; c < PANEL; c += LANES)
                        points_to_output(s, place(s, first + t), m + t * PANEL + c, m_stride,
                            y + panel * PANEL + c, all_panels * PANEL);
            }
        }
    }
}

// The work of `taps_gradient` in blocks of `depth` channels; a constant, so that loops unroll.
INLINE void taps_gradient_by(
    const Int depth, const Shape *s, Int pieces, const Real *const x[2],
    const Real *const y_bar[2], Real *taps_bar)
{
    const Int K = s->inputs, C = s->outputs, tiles = tiles_of(s);
    const Int across = C / depth, items = K / depth * across;
    // Rows beyond `depth` have undefined results, which are not used.
    const Int rows = (depth + ROWS - 1) / ROWS * ROWS;
    const Int stride = GRADIENT_TILES * depth + LANES, u_stride = rows * depth + LANES;
    _Pragma("omp parallel")
    {
        Real *v = scratch(INPUT_POINTS, POINTS * stride);
        Real *m = scratch(OUTPUT_POINTS, POINTS * stride);
        Real *u = scratch(TAPS_SUM, POINTS * u_stride);
        _Pragma("omp for schedule(static)")
        for (Int item = 0; item < pieces * items; item++) {
            const Int piece = item / items;
            const Int k0 = item % items / across * depth, c0 = item % across * depth;
            const Int end = (piece + 1) * tiles / pieces;
            memset(u, 0, POINTS * u_stride * sizeof(Real));
            for (int h = 0; h < 2 && x[h]; h++)
                for (Int first = piece * tiles / pieces; first < end; first += GRADIENT_TILES) {
                    const Int count = end - first < GRADIENT_TILES ? end - first : GRADIENT_TILES;
                    for (Int t = 0; t < count; t++)
                        for (Int d = 0; d < depth; d += LANES) {
                            const Place at = place(s, first + t);
                            const Int to = t * depth + d;
                            input_to_points(s, at, x[h] + k0 + d, v + to, stride);
                            gradient_to_points(s, at, y_bar[h] + c0 + d, m + to, stride);
                        }
                    for (Int p = 0; p < POINTS; p++)
                        for (Int c = 0; c < depth; c += PANEL)
                            for (Int k = 0; k < depth; k += ROWS) {
                                Real *to = u + p * u_stride + k * depth + c;
                                product(
                                    v + p * stride + k, 1, depth, m + p * stride + c, depth,
                                    count, to, depth, 1, to + u_stride);
                            }
                }
            for (Int k = 0; k < depth; k++)
                for (Int c = 0; c < depth; c += LANES)
                    points_to_taps(u + k * depth + c, u_stride,
                        taps_bar + (piece * TAPS * K + k0 + k) * C + c0 + c, K * C);
        }
    }
}

// taps_bar (pieces, 3x3, K, C): the gradient of each piece of the tiles, for the caller to sum. A
// second x and y_bar, unless NULL, add theirs to it.
void taps_gradient(
    const Shape *s, Int pieces, const Real *x0, const Real *y_bar0, const Real *x1,
    const Real *y_bar1, Real *taps_bar)
{
    const Real *const x[2] = {x0, x1}, *const y_bar[2] = {y_bar0, y_bar1};
    if (s->inputs % WIDE || s->outputs % WIDE)
        taps_gradient_by(NARROW, s, pieces, x, y_bar, taps_bar);
    else
        taps_gradient_by(WIDE, s, pieces, x, y_bar, taps_bar);
}
