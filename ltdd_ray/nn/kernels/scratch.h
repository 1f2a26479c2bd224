// Memory that a thread keeps for its next call: freed after each call, it would fragment the heap.

#include <stdio.h>
#include <stdlib.h>

#include "vector.h"

enum { USES = 4 };

static Real *scratch(int use, Int count) {
    static _Thread_local struct { Real *memory; Int count; } kept[USES];
    if (kept[use].count < count) {
        free(kept[use].memory);
        count = (count + LANES - 1) / LANES * LANES;  // aligned_alloc takes multiples
        kept[use].memory = aligned_alloc(WIDTH, count * sizeof(Real)), kept[use].count = count;
        if (!kept[use].memory) {
            fputs("ltdd_ray: no memory is left for a convolution\n", stderr);
            abort();
        }
    }
    return kept[use].memory;
}
