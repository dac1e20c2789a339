/* The range coder. range_coder.py explains and specifies it; the names are the same. */

#ifndef VQCODEC_NATIVE_RANGE_CODER_H
#define VQCODEC_NATIVE_RANGE_CODER_H

#include <stdint.h>
#include <stdlib.h>

#define PRECISION 24
#define TOTAL ((uint32_t)1 << PRECISION)
#define LEAST_RANGE ((uint64_t)1 << 32)

/* The edge before a code: its share of the 2^24 - K that are to be shared, plus 1 for each code before it. */
static inline uint32_t edge_before(uint32_t sum, float scale, uint32_t code) {
    float share = (float)(int32_t)sum * scale; /* rounded to float32 before it is rounded down */
    return (uint32_t)(int32_t)share + code;
}

typedef struct {
    uint32_t left, right;
} Interval;

/* ---- Encoder. */

typedef struct {
    uint32_t *words;
    size_t count, capacity;
    uint64_t lower, range;
    uint32_t first;        /* of the words that are held back while the interval is inverted */
    size_t held;           /* how many are held back */
    int failed;            /* no memory */
} Encoder;

static void encoder_start(Encoder *coder) {
    *coder = (Encoder){0};
    coder->range = UINT64_MAX;
}

static void put_word(Encoder *coder, uint32_t word) {
    if (coder->count == coder->capacity) {
        size_t capacity = coder->capacity ? 2 * coder->capacity : 1024;
        uint32_t *words = capacity > SIZE_MAX / sizeof *words ? NULL : realloc(coder->words, capacity * sizeof *words);
        if (!words) {
            coder->failed = 1;
            return;
        }
        coder->words = words;
        coder->capacity = capacity;
    }
    coder->words[coder->count++] = word;
}

/* Write the words that were held back, now that it is known whether a carry reaches them. */
static void release_words(Encoder *coder, int carry) {
    for (size_t i = 0; i < coder->held; i++)
        put_word(coder, i == 0 ? coder->first + (uint32_t)carry : carry ? 0 : UINT32_MAX);
    coder->held = 0;
}

static void encode(Encoder *coder, Interval interval) {
    uint64_t scale = coder->range >> PRECISION;
    uint64_t lower = coder->lower + scale * interval.left;
    uint64_t range = scale * (interval.right - interval.left);
    if (coder->held && lower + range > lower)
        release_words(coder, lower < coder->lower);
    if (range < LEAST_RANGE) {
        uint32_t word = (uint32_t)(lower >> 32);
        lower <<= 32;
        range <<= 32;
        if (coder->held)
            coder->held++;
        else if (lower + range > lower)
            put_word(coder, word);
        else {
            coder->first = word;
            coder->held = 1;
        }
    }
    coder->lower = lower;
    coder->range = range;
}

/* Append the last words. */
static void encoder_finish(Encoder *coder) {
    if (coder->range == UINT64_MAX)
        return;
    uint64_t point = coder->lower + (LEAST_RANGE - 1);
    uint32_t word = (uint32_t)(point >> 32);
    release_words(coder, point < coder->lower);
    put_word(coder, word);
    if ((uint32_t)((coder->lower + coder->range) >> 32) == word)
        put_word(coder, 0);
}

/* ---- Decoder. */

typedef struct {
    const unsigned char *data;
    size_t size, next;     /* bytes; `next` is that of the next word */
    uint64_t lower, range, point;
    int invalid;           /* the words contradict the counts */
} Decoder;

/* The next word, from little-endian bytes; missing bytes are 0. */
static uint32_t get_word(Decoder *coder) {
    uint32_t word = 0;
    for (int i = 0; i < 4 && coder->next < coder->size; i++)
        word |= (uint32_t)coder->data[coder->next++] << 8 * i;
    return word;
}

static void decoder_start(Decoder *coder, const char *data, size_t size) {
    *coder = (Decoder){(const unsigned char *)data, size, 0, 0, UINT64_MAX, 0, 0};
    coder->point = (uint64_t)get_word(coder) << 32;
    coder->point |= get_word(coder);
}

/* Where the point lies, in units of range / 2^24. TOTAL or more: no encoder can have written these words. */
static inline uint64_t decoder_quantile(const Decoder *coder) {
    return (coder->point - coder->lower) / (coder->range >> PRECISION);
}

static void decoder_advance(Decoder *coder, Interval interval) {
    uint64_t scale = coder->range >> PRECISION;
    coder->lower += scale * interval.left;
    coder->range = scale * (interval.right - interval.left);
    if (coder->range < LEAST_RANGE) {
        coder->lower <<= 32;
        coder->range <<= 32;
        coder->point = coder->point << 32 | get_word(coder);
    }
}

/* Whether the words may end here. Where nothing was read, which is where the range is still whole, there are none. */
static int decoder_may_end(const Decoder *coder) {
    if (coder->range == UINT64_MAX)
        return coder->size == 0;
    return coder->next >= coder->size && coder->point - coder->lower < 2 * LEAST_RANGE - 1;
}

#endif
