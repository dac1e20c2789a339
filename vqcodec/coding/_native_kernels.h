/* Products in vector instructions: a tile of a few rows by one or two panels, and which CPUs have the instructions.

   Every kernel is the same loop:

       for each segment, for each pair of inputs:          w: the weights of the pair for the lanes of a panel
           for each row r:  x = the pair of row r in all lanes
                            sum[r] += w * x, the two products of a lane added up

   `rows` and `panels` are constants where a kernel is inlined, so the loops over them disappear. */

#ifndef VQCODEC_NATIVE_KERNELS_H
#define VQCODEC_NATIVE_KERNELS_H

#if defined(__GNUC__) || defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#define WITH(features) __attribute__((target(features)))
#define UNROLL _Pragma("GCC unroll 8")
#elif defined(_MSC_VER)
#define INLINE static __forceinline
#define WITH(features)
#define UNROLL
#else
#define INLINE static inline
#define WITH(features)
#define UNROLL
#endif

#if (defined(__x86_64__) && defined(__GNUC__)) || (defined(_M_X64) && defined(_MSC_VER))
#define HAVE_X86
#include <immintrin.h>
#ifdef __GNUC__ /* and clang; MSVC has AVX2 only, for want of a simple test of the CPU */
#if defined(__clang__) ? __clang_major__ >= 12 : __GNUC__ >= 11
#define HAVE_AVX_VNNI
#endif
#if defined(__clang__) ? __clang_major__ >= 7 : __GNUC__ >= 8
#define HAVE_AVX512
#endif
#endif

INLINE int32_t pair_at(const int16_t *x) {
    int32_t pair;
    memcpy(&pair, x, sizeof pair);
    return pair;
}

/* The kernel with vectors of 256 bits, two for a panel. ADD(sum, x, w) adds the products of pairs. */
#define KERNEL_256(name, features, ADD) \
    WITH(features) \
    INLINE void name(const Product *product, const int16_t *const *inputs, const int16_t *weights, int32_t *out, \
                     const int rows, const int panels) { \
        __m256i sum[TILE_ROWS_256][2]; \
        (void)panels; \
        UNROLL for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = _mm256_setzero_si256(); \
        for (int s = 0; s < product->segments; s++, inputs += CHUNK) { \
            const int16_t *row[TILE_ROWS_256]; \
            UNROLL for (int r = 0; r < rows; r++) row[r] = inputs[r]; \
            for (int k = 0; k < product->width; k += 2, weights += 2 * LANES) { \
                __m256i low = _mm256_loadu_si256((const __m256i *)weights); \
                __m256i high = _mm256_loadu_si256((const __m256i *)(weights + LANES)); \
                UNROLL for (int r = 0; r < rows; r++) { \
                    __m256i x = _mm256_set1_epi32(pair_at(row[r] + k)); \
                    sum[r][0] = ADD(sum[r][0], x, low); \
                    sum[r][1] = ADD(sum[r][1], x, high); \
                } \
            } \
        } \
        UNROLL for (int r = 0; r < rows; r++, out += product->panels * LANES) { \
            _mm256_storeu_si256((__m256i *)out, sum[r][0]); \
            _mm256_storeu_si256((__m256i *)(out + 8), sum[r][1]); \
        } \
    }

#define TILE_ROWS_256 6
#define ADD_AVX2(sum, x, w) _mm256_add_epi32(sum, _mm256_madd_epi16(x, w))
KERNEL_256(kernel_avx2, "avx2", ADD_AVX2)
#ifdef HAVE_AVX_VNNI
KERNEL_256(kernel_avx_vnni, "avx2,avxvnni", _mm256_dpwssd_avx_epi32)
#endif

/* The same with vectors of 128 bits, four for a panel: every x86-64 CPU has them. */
#define TILE_ROWS_128 3
INLINE void kernel_sse2(const Product *product, const int16_t *const *inputs, const int16_t *weights, int32_t *out,
                        const int rows, const int panels) {
    __m128i sum[TILE_ROWS_128][4];
    (void)panels;
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < 4; v++) sum[r][v] = _mm_setzero_si128();
    for (int s = 0; s < product->segments; s++, inputs += CHUNK) {
        const int16_t *row[TILE_ROWS_128];
        UNROLL for (int r = 0; r < rows; r++) row[r] = inputs[r];
        for (int k = 0; k < product->width; k += 2, weights += 2 * LANES) {
            __m128i x[TILE_ROWS_128];
            UNROLL for (int r = 0; r < rows; r++) x[r] = _mm_set1_epi32(pair_at(row[r] + k));
            UNROLL for (int v = 0; v < 4; v++) {
                __m128i w = _mm_loadu_si128((const __m128i *)(weights + 8 * v));
                UNROLL for (int r = 0; r < rows; r++) sum[r][v] = _mm_add_epi32(sum[r][v], _mm_madd_epi16(x[r], w));
            }
        }
    }
    UNROLL for (int r = 0; r < rows; r++, out += product->panels * LANES)
        UNROLL for (int v = 0; v < 4; v++) _mm_storeu_si128((__m128i *)(out + 4 * v), sum[r][v]);
}

#ifdef HAVE_AVX512
/* The kernel with vectors of 512 bits, one for a panel. */
#define KERNEL_512(name, features, ADD) \
    WITH(features) \
    INLINE void name(const Product *product, const int16_t *const *inputs, const int16_t *weights, int32_t *out, \
                     const int rows, const int panels) { \
        size_t next = panels == 2 ? (size_t)product->segments * product->width * LANES : 0; \
        __m512i sum[TILE_ROWS_512][2]; \
        UNROLL for (int r = 0; r < rows; r++) sum[r][0] = sum[r][1] = _mm512_setzero_si512(); \
        for (int s = 0; s < product->segments; s++, inputs += CHUNK) { \
            const int16_t *row[TILE_ROWS_512]; \
            UNROLL for (int r = 0; r < rows; r++) row[r] = inputs[r]; \
            for (int k = 0; k < product->width; k += 2, weights += 2 * LANES) { \
                __m512i one = _mm512_loadu_si512(weights), two = _mm512_loadu_si512(weights + next); \
                UNROLL for (int r = 0; r < rows; r++) { \
                    __m512i x = _mm512_set1_epi32(pair_at(row[r] + k)); \
                    sum[r][0] = ADD(sum[r][0], x, one); \
                    if (panels == 2) \
                        sum[r][1] = ADD(sum[r][1], x, two); \
                } \
            } \
        } \
        UNROLL for (int r = 0; r < rows; r++, out += product->panels * LANES) { \
            _mm512_storeu_si512(out, sum[r][0]); \
            if (panels == 2) \
                _mm512_storeu_si512(out + LANES, sum[r][1]); \
        } \
    }

#define TILE_ROWS_512 8
#define AVX512 "avx2,avx512f,avx512bw"
#define AVX512_VNNI "avx2,avx512f,avx512bw,avx512vnni"
#define ADD_AVX512(sum, x, w) _mm512_add_epi32(sum, _mm512_madd_epi16(x, w))
KERNEL_512(kernel_avx512, AVX512, ADD_AVX512)
KERNEL_512(kernel_avx512_vnni, AVX512_VNNI, _mm512_dpwssd_epi32)
#endif

#ifdef __GNUC__
static int has_avx2(void) { return __builtin_cpu_supports("avx2") != 0; }
#ifdef HAVE_AVX_VNNI
static int has_avx_vnni(void) {
    unsigned a, b, c, d; /* CPUID 7.1: the compilers' own test for it is newer than the instructions */
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(0));
    if (!has_avx2() || a < 1)
        return 0;
    __asm__("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(1));
    return a >> 4 & 1;
}
#endif
#ifdef HAVE_AVX512
static int has_avx512(void) {
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}
static int has_avx512_vnni(void) { return has_avx512() && __builtin_cpu_supports("avx512vnni"); }
#endif
#else
#include <intrin.h>
/* AVX2 in the CPU, and its registers kept by the system. */
static int has_avx2(void) {
    int info[4];
    __cpuid(info, 0);
    if (info[0] < 7)
        return 0;
    __cpuid(info, 1);
    if (~info[2] & (1 << 27 | 1 << 28) || (_xgetbv(0) & 6) != 6)
        return 0;
    __cpuidex(info, 7, 0);
    return info[1] >> 5 & 1;
}
#endif
#endif

#if (defined(__aarch64__) && defined(__GNUC__)) && !defined(__AARCH64EB__)
#define HAVE_NEON
#include <arm_neon.h>
#define TILE_ROWS_NEON 3

/* A lane's two products are summed in two lanes of a vector: eight vectors of four sums for a panel. They are added up
   at the end. */
INLINE void kernel_neon(const Product *product, const int16_t *const *inputs, const int16_t *weights, int32_t *out,
                        const int rows, const int panels) {
    int32x4_t sum[TILE_ROWS_NEON][8];
    (void)panels;
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < 8; v++) sum[r][v] = vdupq_n_s32(0);
    for (int s = 0; s < product->segments; s++, inputs += CHUNK)
        for (int k = 0; k < product->width; k += 2, weights += 2 * LANES) {
            int16x8_t x[TILE_ROWS_NEON];
            UNROLL for (int r = 0; r < rows; r++) {
                int32_t pair;
                memcpy(&pair, inputs[r] + k, sizeof pair);
                x[r] = vreinterpretq_s16_s32(vdupq_n_s32(pair));
            }
            UNROLL for (int v = 0; v < 4; v++) {
                int16x8_t w = vld1q_s16(weights + 8 * v);
                UNROLL for (int r = 0; r < rows; r++) {
                    sum[r][2 * v] = vmlal_s16(sum[r][2 * v], vget_low_s16(w), vget_low_s16(x[r]));
                    sum[r][2 * v + 1] = vmlal_high_s16(sum[r][2 * v + 1], w, x[r]);
                }
            }
        }
    UNROLL for (int r = 0; r < rows; r++, out += product->panels * LANES)
        UNROLL for (int v = 0; v < 4; v++) vst1q_s32(out + 4 * v, vpaddq_s32(sum[r][2 * v], sum[r][2 * v + 1]));
}
#endif

#endif
