// A vector as wide as the processor's registers; compilers keep wider ones in memory.

#include <stdint.h>

#ifdef DOUBLE
typedef double Real;
typedef int64_t Bits;
#else
typedef float Real;
typedef int32_t Bits;
#endif
#if defined(__AVX512F__)
#define WIDTH 64
#elif defined(__AVX__)
#define WIDTH 32
#else
#define WIDTH 16
#endif
typedef int64_t Int;
typedef Real Vector __attribute__((vector_size(WIDTH)));

enum { LANES = WIDTH / sizeof(Real) };
#define INLINE static inline __attribute__((always_inline))
#define UNROLL _Pragma("GCC unroll 16")
