/* Sums of an output product -> levels -> counts -> the code at a quantile, for one cell: in plain C and for AVX2. */

#ifndef VQCODEC_NATIVE_COUNTS_H
#define VQCODEC_NATIVE_COUNTS_H

/* ---- Plain C. */

static void levels_plain(const Product *product, int32_t *RESTRICT sums, uint8_t *RESTRICT levels) {
    const int32_t *RESTRICT bias = product->bias, *RESTRICT shift = product->shift;
    int32_t largest = INT32_MIN;
    int lanes = product->panels * LANES;
    for (int i = 0; i < lanes; i++)
        sums[i] = (sums[i] + bias[i]) >> shift[i];
    for (int i = 0; i < lanes; i++)
        largest = sums[i] > largest ? sums[i] : largest;
    for (int i = 0; i < lanes; i++) {
        int32_t below = largest - sums[i];
        levels[i] = (uint8_t)(below > EXP_SIZE - 1 ? EXP_SIZE - 1 : below);
    }
}

/* Set the lanes of the last panel that are no codes to 0. */
static inline void clear_padding(uint32_t *weights, int size) {
    for (; size % LANES; size++)
        weights[size] = 0;
}

static uint64_t weigh_plain(const uint32_t *RESTRICT exponentials, const uint8_t *RESTRICT levels, int size,
                            uint32_t *RESTRICT weights) {
    uint64_t total = 0;
    for (int k = 0; k < size; k++)
        weights[k] = exponentials[levels[k]];
    clear_padding(weights, size);
    for (int panel = 0; panel < size; panel += LANES) {
        uint32_t sum = 0;
        for (int i = 0; i < LANES; i++)
            sum += weights[panel + i];
        total += sum;
    }
    return total;
}

static void count_plain(uint32_t *RESTRICT weights, int size, int shift, uint32_t *RESTRICT before) {
    uint32_t total = 0;
    for (int k = 0; k < size; k++) {
        uint32_t count = weights[k] >> shift;
        weights[k] = count > 1 ? count : 1;
    }
    for (int panel = 0; panel < size; panel += LANES) {
        *before++ = total;
        for (int i = 0; i < LANES; i++)
            total += weights[panel + i];
    }
    *before = total;
}

static int edges_plain(const uint32_t *before, int count, int first, int step, float scale, uint32_t quantile) {
    int found = 0;
    for (int i = 0; i < count; i++)
        found += edge_before(before[i], scale, (uint32_t)(first + i * step)) <= quantile;
    return found;
}

/* ---- AVX2. The lookups stay as they are: its gather instruction is no faster. */

#ifdef HAVE_X86

WITH("avx2") INLINE int32_t sum_of_lanes(__m256i v) {
    __m128i half = _mm_add_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4E));
    half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xB1));
    return _mm_cvtsi128_si32(half);
}

WITH("avx2") INLINE int32_t largest_lane(__m256i v) {
    __m128i half = _mm_max_epi32(_mm256_castsi256_si128(v), _mm256_extracti128_si256(v, 1));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0x4E));
    half = _mm_max_epi32(half, _mm_shuffle_epi32(half, 0xB1));
    return _mm_cvtsi128_si32(half);
}

WITH("avx2") static void levels_avx2(const Product *product, int32_t *sums, uint8_t *levels) {
    __m256i most = _mm256_set1_epi32(INT32_MIN), top = _mm256_set1_epi32(EXP_SIZE - 1);
    int lanes = product->panels * LANES;
    for (int i = 0; i < lanes; i += 8) {
        __m256i y = _mm256_add_epi32(_mm256_loadu_si256((const __m256i *)(sums + i)),
                                     _mm256_loadu_si256((const __m256i *)(product->bias + i)));
        y = _mm256_srav_epi32(y, _mm256_loadu_si256((const __m256i *)(product->shift + i)));
        _mm256_storeu_si256((__m256i *)(sums + i), y);
        most = _mm256_max_epi32(most, y);
    }
    most = _mm256_set1_epi32(largest_lane(most));
    for (int i = 0; i < lanes; i += 16) {
        __m256i a = _mm256_sub_epi32(most, _mm256_loadu_si256((const __m256i *)(sums + i)));
        __m256i b = _mm256_sub_epi32(most, _mm256_loadu_si256((const __m256i *)(sums + i + 8)));
        __m256i both = _mm256_packus_epi32(_mm256_min_epi32(a, top), _mm256_min_epi32(b, top));
        both = _mm256_permute4x64_epi64(both, 0xD8); /* in order again */
        __m128i bytes = _mm_packus_epi16(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
        _mm_storeu_si128((__m128i *)(levels + i), bytes);
    }
}

WITH("avx2") static void count_avx2(uint32_t *weights, int size, int shift, uint32_t *before) {
    __m128i by = _mm_cvtsi32_si128(shift);
    __m256i one = _mm256_set1_epi32(1);
    uint32_t total = 0;
    for (int panel = 0; panel < size; panel += LANES) {
        __m256i a = _mm256_loadu_si256((const __m256i *)(weights + panel));
        __m256i b = _mm256_loadu_si256((const __m256i *)(weights + panel + 8));
        a = _mm256_max_epu32(_mm256_srl_epi32(a, by), one);
        b = _mm256_max_epu32(_mm256_srl_epi32(b, by), one);
        _mm256_storeu_si256((__m256i *)(weights + panel), a);
        _mm256_storeu_si256((__m256i *)(weights + panel + 8), b);
        *before++ = total;
        total += (uint32_t)sum_of_lanes(_mm256_add_epi32(a, b));
    }
    *before = total - (uint32_t)(-size & (LANES - 1)); /* the lanes that are no codes have counted as 1 */
    clear_padding(weights, size);
}

WITH("avx2") static int edges_avx2(const uint32_t *before, int count, int first, int step, float scale,
                                   uint32_t quantile) {
    __m256i most = _mm256_set1_epi32((int32_t)quantile), found = _mm256_setzero_si256();
    __m256i lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7), end = _mm256_set1_epi32(count);
    __m256i codes = _mm256_add_epi32(_mm256_set1_epi32(first), _mm256_mullo_epi32(lane, _mm256_set1_epi32(step)));
    for (int i = 0; i < count; i += 8) {
        __m256 sums = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(before + i)));
        __m256i edges = _mm256_add_epi32(_mm256_cvttps_epi32(_mm256_mul_ps(sums, _mm256_set1_ps(scale))), codes);
        found = _mm256_add_epi32(found, _mm256_andnot_si256(_mm256_cmpgt_epi32(edges, most),
                                                            _mm256_cmpgt_epi32(end, lane)));
        lane = _mm256_add_epi32(lane, _mm256_set1_epi32(8));
        codes = _mm256_add_epi32(codes, _mm256_set1_epi32(8 * step));
    }
    return -sum_of_lanes(found);
}

#define weigh_avx2 weigh_plain
#endif

#endif
