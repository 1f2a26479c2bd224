// Instance norm, ReLU and 2x2 average pooling of whole tensors; block.h has the operation on a piece
// of work, which is one image and one vector of channels. Such a piece stays in a core's cache.
//
// u_pair (N, H, W, 2C) holds u and u_dot side by side.

#include "block.h"

#define u_at (image * pixels * C + first)

void forward(
    const Shape *s, const Real *u, const Real *gamma, const Real *beta, Real *y, Real *stats)
{
#define ONE(lanes) \
    forward_group(s, lanes, u + u_at, C, gamma + first, beta + first, y + y_at, stats + at)
    FOR_EACH_GROUP(ONE)
#undef ONE
}

void backward(
    const Shape *s, const Real *u, const Real *gamma, const Real *beta, const Real *stats,
    const Real *y_bar, Real *u_bar, Real *params_bar)
{
#define ONE(lanes)                                                                    \
    backward_group(                                                                   \
        s, lanes, u + u_at, C, gamma + first, beta + first, stats + at, y_bar + y_at, \
        u_bar + u_at, params_bar + at)
    FOR_EACH_GROUP(ONE)
#undef ONE
}

void tangent_forward(
    const Shape *s, Real *u_pair, const Real *u_extra, const Real *gamma, const Real *beta,
    const Real *gamma_dot, const Real *beta_dot, Real *y, Real *y_dot, Real *stats)
{
#define ONE(lanes)                                                                    \
    tangent_forward_group(                                                            \
        s, lanes, u_pair + 2 * u_at - first, u_pair + 2 * u_at - first + C, 2 * C,    \
        u_extra ? u_extra + u_at : 0, gamma + first, beta + first, gamma_dot + first, \
        beta_dot + first, y + y_at, y_dot + y_at, stats + at)
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
        s, lanes, u_pair + 2 * u_at - first, u_pair + 2 * u_at - first + C, 2 * C,           \
        gamma + first, beta + first, gamma_dot + first, stats + at,                          \
        y_bar_pair + 2 * y_at - first, y_bar_extra ? y_bar_extra + y_at : 0, u_bar + u_at,   \
        u_bar_dot + u_at, C, params_bar_dot + at)
    FOR_EACH_GROUP(ONE)
#undef ONE
}
