/* Vectors of floats for each instruction set, and which CPUs have it: the same functions for all of them.

       lanes_x      floats in a vector             fma(a, b, c)        a * b + c
       row_x        rows of a tile of products     signs(v)            bit i: whether lane i is above 0
       panel_x      vectors of a row of a tile     keep(v, signs)      v where the bit is set, else 0
                                                   less(a, b, c, d)    c where a < b, else d

   A tile of products, row_x * panel_x vectors, stays in registers, with a row of weights and an input in all lanes. */

#ifndef VQCODEC_NN_NATIVE_VECTORS_H
#define VQCODEC_NN_NATIVE_VECTORS_H

#if defined(__GNUC__) || defined(__clang__)
#define INLINE static inline __attribute__((always_inline))
#define WITH(features) __attribute__((target(features)))
#define UNROLL _Pragma("GCC unroll 16")
#define PREFETCH(p) __builtin_prefetch(p)
#elif defined(_MSC_VER)
#define INLINE static __forceinline
#define WITH(features)
#define UNROLL
#define PREFETCH(p) ((void)0)
#else
#define INLINE static inline
#define WITH(features)
#define UNROLL
#define PREFETCH(p) ((void)0)
#endif

#if (defined(__x86_64__) && defined(__GNUC__)) || (defined(_M_X64) && defined(_MSC_VER))
#define HAVE_X86
#include <immintrin.h>

#define AVX2 "avx2,fma"
#define FUNCTION WITH(AVX2) INLINE
typedef __m256 vector_avx2;
enum { lanes_avx2 = 8, row_avx2 = 6, panel_avx2 = 2 };
FUNCTION __m256 load_avx2(const float *p) { return _mm256_loadu_ps(p); }
FUNCTION void store_avx2(float *p, __m256 v) { _mm256_storeu_ps(p, v); }
FUNCTION __m256 all_avx2(float x) { return _mm256_set1_ps(x); }
FUNCTION __m256 add_avx2(__m256 a, __m256 b) { return _mm256_add_ps(a, b); }
FUNCTION __m256 sub_avx2(__m256 a, __m256 b) { return _mm256_sub_ps(a, b); }
FUNCTION __m256 mul_avx2(__m256 a, __m256 b) { return _mm256_mul_ps(a, b); }
FUNCTION __m256 max_avx2(__m256 a, __m256 b) { return _mm256_max_ps(a, b); }
FUNCTION __m256 min_avx2(__m256 a, __m256 b) { return _mm256_min_ps(a, b); }
FUNCTION __m256 fma_avx2(__m256 a, __m256 b, __m256 c) { return _mm256_fmadd_ps(a, b, c); }
FUNCTION unsigned signs_avx2(__m256 v) {
    return (unsigned)_mm256_movemask_ps(_mm256_cmp_ps(v, _mm256_setzero_ps(), _CMP_GT_OQ));
}
FUNCTION __m256 keep_avx2(__m256 v, unsigned signs) {
    __m256i bits = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    __m256i set = _mm256_and_si256(_mm256_set1_epi32((int)signs), bits);
    return _mm256_and_ps(v, _mm256_castsi256_ps(_mm256_cmpeq_epi32(set, bits)));
}
FUNCTION __m256 less_avx2(__m256 a, __m256 b, __m256 c, __m256 d) {
    return _mm256_blendv_ps(d, c, _mm256_cmp_ps(a, b, _CMP_LT_OQ));
}
FUNCTION __m256 from_bytes_avx2(const uint8_t *p) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64((const __m128i *)p)));
}
#undef FUNCTION

#ifdef __GNUC__ /* and clang; MSVC has AVX2 only, for want of a simple test of the CPU */
static int has_avx2(void) { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }

#define HAVE_AVX512
#define AVX512 "avx2,fma,avx512f"
#define FUNCTION WITH(AVX512) INLINE
typedef __m512 vector_avx512;
enum { lanes_avx512 = 16, row_avx512 = 12, panel_avx512 = 2 };
FUNCTION __m512 load_avx512(const float *p) { return _mm512_loadu_ps(p); }
FUNCTION void store_avx512(float *p, __m512 v) { _mm512_storeu_ps(p, v); }
FUNCTION __m512 all_avx512(float x) { return _mm512_set1_ps(x); }
FUNCTION __m512 add_avx512(__m512 a, __m512 b) { return _mm512_add_ps(a, b); }
FUNCTION __m512 sub_avx512(__m512 a, __m512 b) { return _mm512_sub_ps(a, b); }
FUNCTION __m512 mul_avx512(__m512 a, __m512 b) { return _mm512_mul_ps(a, b); }
FUNCTION __m512 max_avx512(__m512 a, __m512 b) { return _mm512_max_ps(a, b); }
FUNCTION __m512 min_avx512(__m512 a, __m512 b) { return _mm512_min_ps(a, b); }
FUNCTION __m512 fma_avx512(__m512 a, __m512 b, __m512 c) { return _mm512_fmadd_ps(a, b, c); }
FUNCTION unsigned signs_avx512(__m512 v) { return _mm512_cmp_ps_mask(v, _mm512_setzero_ps(), _CMP_GT_OQ); }
FUNCTION __m512 keep_avx512(__m512 v, unsigned signs) { return _mm512_maskz_mov_ps((__mmask16)signs, v); }
FUNCTION __m512 less_avx512(__m512 a, __m512 b, __m512 c, __m512 d) {
    return _mm512_mask_mov_ps(d, _mm512_cmp_ps_mask(a, b, _CMP_LT_OQ), c);
}
FUNCTION __m512 from_bytes_avx512(const uint8_t *p) {
    return _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)p)));
}
#undef FUNCTION
static int has_avx512(void) { return has_avx2() && __builtin_cpu_supports("avx512f"); }
#else
#include <intrin.h>
/* AVX2 and FMA in the CPU, and the registers kept by the system. */
static int has_avx2(void) {
    int info[4];
    __cpuid(info, 0);
    if (info[0] < 7)
        return 0;
    __cpuid(info, 1);
    if (~info[2] & (1 << 12 | 1 << 27 | 1 << 28) || (_xgetbv(0) & 6) != 6)
        return 0;
    __cpuidex(info, 7, 0);
    return info[1] >> 5 & 1;
}
#endif
#endif

#if defined(__aarch64__) && defined(__GNUC__) && !defined(__AARCH64EB__)
#define HAVE_NEON
#include <arm_neon.h>
typedef float32x4_t vector_neon;
enum { lanes_neon = 4, row_neon = 6, panel_neon = 4 };
INLINE float32x4_t load_neon(const float *p) { return vld1q_f32(p); }
INLINE void store_neon(float *p, float32x4_t v) { vst1q_f32(p, v); }
INLINE float32x4_t all_neon(float x) { return vdupq_n_f32(x); }
INLINE float32x4_t add_neon(float32x4_t a, float32x4_t b) { return vaddq_f32(a, b); }
INLINE float32x4_t sub_neon(float32x4_t a, float32x4_t b) { return vsubq_f32(a, b); }
INLINE float32x4_t mul_neon(float32x4_t a, float32x4_t b) { return vmulq_f32(a, b); }
INLINE float32x4_t max_neon(float32x4_t a, float32x4_t b) { return vmaxq_f32(a, b); }
INLINE float32x4_t min_neon(float32x4_t a, float32x4_t b) { return vminq_f32(a, b); }
INLINE float32x4_t fma_neon(float32x4_t a, float32x4_t b, float32x4_t c) { return vfmaq_f32(c, a, b); }
INLINE uint32x4_t bits_neon(void) {
    static const uint32_t BITS[4] = {1, 2, 4, 8};
    return vld1q_u32(BITS);
}
INLINE unsigned signs_neon(float32x4_t v) { return vaddvq_u32(vandq_u32(vcgtzq_f32(v), bits_neon())); }
INLINE float32x4_t keep_neon(float32x4_t v, unsigned signs) {
    return vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(v), vtstq_u32(vdupq_n_u32(signs), bits_neon())));
}
INLINE float32x4_t less_neon(float32x4_t a, float32x4_t b, float32x4_t c, float32x4_t d) {
    return vbslq_f32(vcltq_f32(a, b), c, d);
}
INLINE float32x4_t from_bytes_neon(const uint8_t *p) {
    uint32_t four;
    memcpy(&four, p, sizeof four);
    return vcvtq_f32_u32(vmovl_u16(vget_low_u16(vmovl_u8(vcreate_u8(four)))));
}
#endif

#endif
