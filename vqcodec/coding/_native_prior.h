/* The integer prior as the native code holds it: memory, packed products, validation of all that comes from Python.

   A product has inputs of one or more segments (the neighbours of a cell), each of `width` channels:

       inputs    segment 0       segment 1             each a row of int16 somewhere in memory, so that neighbours
                 |c0 c1 c2 ..|   |c0 c1 c2 ..|         need not be gathered
       weights   panel 0: LANES outputs                panel 1: the next LANES outputs
                 |inputs 0, 1 of lane 0|inputs 0, 1 of lane 1| ..   then inputs 2, 3 of all lanes, and so on

   Widths are padded to multiples of LANES with zeros. Pairs of inputs, because processors multiply two pairs of int16
   and add the two products in one instruction. */

#ifndef VQCODEC_NATIVE_PRIOR_H
#define VQCODEC_NATIVE_PRIOR_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define LANES 16             /* outputs of a panel */
#define CHUNK 48             /* cells that go through a product together */
#define WEIGHT_MAX 127       /* formats.py explains these */
#define GATE_MAX 64
#define GATE_EXPONENT 6
#define SUM_BOUND (1 << 24)
#define COUNT_BITS 22
#define MAX_SHIFT 30
#define ENTRY_TAPS 10
#define BLOCK_TAPS 5
#define MAX_CHANNELS 4096
#define MAX_BOOKS 4096
#define MAX_SIZE 65536       /* codes of a codebook */
#define EXP_SIZE 256
#define EXP_MAX (1 << 23)
#define ALIGNMENT 64         /* of arrays: a cache line */

#if defined(__GNUC__) || defined(_MSC_VER)
#define RESTRICT __restrict
#else
#define RESTRICT
#endif

typedef char shifts_are_arithmetic[(-5 >> 1) == -3 ? 1 : -1];

static const int8_t ENTRY_OFFSETS[ENTRY_TAPS][2] = {
    {0, -1}, {0, -2}, {-1, -2}, {-1, -1}, {-1, 0}, {-1, 1}, {-2, -1}, {-2, 0}, {-2, 1}, {-2, 2}};
static const int8_t BLOCK_OFFSETS[BLOCK_TAPS][2] = {{0, 0}, {0, -1}, {-1, -1}, {-1, 0}, {-1, 1}};

/* ---- Memory: arrays that are freed together. */

typedef struct Memory {
    struct Memory *next;
} Memory;

/* An array of zeros, aligned to ALIGNMENT. NULL if there is no memory. */
static void *allocate(Memory **list, size_t count, size_t size) {
    if (size && count > (SIZE_MAX - 2 * ALIGNMENT) / size)
        return NULL;
    char *raw = calloc(1, count * size + 2 * ALIGNMENT);
    if (!raw)
        return NULL;
    ((Memory *)raw)->next = *list;
    *list = (Memory *)raw;
    return raw + 2 * ALIGNMENT - (size_t)((uintptr_t)raw % ALIGNMENT);
}

static void release(Memory *list) {
    while (list) {
        Memory *next = list->next;
        free(list);
        list = next;
    }
}

/* ---- Products. */

typedef struct {
    int segments, width; /* of the inputs; width is padded */
    int outputs, panels; /* outputs without padding; panels of LANES outputs each */
    int lanes;           /* LANES, for loops that should be compiled for any number */
    int16_t *weights;    /* [panels][segments * width / 2][LANES][2] */
    int32_t *bias;       /* [panels * LANES] */
    int32_t *shift;      /* [panels * LANES] */
} Product;

typedef struct {
    const char *weight, *bias, *shift; /* int8 [outputs][segments * channels], int32 [outputs], int8 [outputs] */
    size_t weight_size, bias_size, shift_size;
} Tensors;

typedef struct {
    int segments, channels; /* of the inputs, without padding */
    int outputs, halves;    /* halves: 2 if each half of the outputs is padded on its own (gates), else 1 */
    int limit;              /* largest magnitude of an input */
    int32_t pad;            /* bias of the outputs that are padding */
} Shape;

static int padded(int count) { return (count + LANES - 1) / LANES * LANES; }

/* Whether output `o` keeps the bounds that make sums exact, so that no int32 overflows. */
static int is_bounded(const Tensors *from, const Shape *shape, int o) {
    size_t inputs = (size_t)shape->segments * shape->channels;
    const int8_t *row = (const int8_t *)from->weight + o * inputs;
    int64_t sum = 0;
    int32_t bias;
    memcpy(&bias, from->bias + (size_t)o * sizeof bias, sizeof bias);
    for (size_t i = 0; i < inputs; i++) {
        if (row[i] < -WEIGHT_MAX)
            return 0;
        sum += row[i] < 0 ? -row[i] : row[i];
    }
    sum = sum * shape->limit + (bias < 0 ? -(int64_t)bias : bias);
    int shift = ((const int8_t *)from->shift)[o];
    return sum < SUM_BOUND && shift >= 0 && shift <= MAX_SHIFT;
}

/* Validate the tensors of a product and pack them. Returns NULL, or what is wrong ("" if there is no memory). */
static const char *pack(Memory **memory, Product *product, const Tensors *from, const Shape *shape) {
    int width = padded(shape->channels), half = shape->outputs / shape->halves;
    size_t inputs = (size_t)shape->segments * shape->channels, pairs = (size_t)shape->segments * width / 2;
    size_t outputs = (size_t)shape->outputs, lanes = (size_t)padded(half) * shape->halves;
    if (from->weight_size != outputs * inputs || from->bias_size != outputs * 4 || from->shift_size != outputs)
        return "a product has tensors of a wrong size";
    *product = (Product){shape->segments, width, shape->outputs, (int)(lanes / LANES), LANES, NULL, NULL, NULL};
    product->weights = allocate(memory, lanes * pairs * 2, sizeof(int16_t));
    product->bias = allocate(memory, lanes, sizeof(int32_t));
    product->shift = allocate(memory, lanes, sizeof(int32_t));
    if (!product->weights || !product->bias || !product->shift)
        return "";
    for (size_t lane = 0; lane < lanes; lane++)
        product->bias[lane] = shape->pad;
    for (int o = 0; o < shape->outputs; o++) {
        size_t place = (size_t)(o / half) * padded(half) + o % half;
        if (!is_bounded(from, shape, o))
            return "a product has weights, biases or shifts out of range";
        memcpy(&product->bias[place], from->bias + (size_t)o * sizeof(int32_t), sizeof(int32_t));
        product->shift[place] = ((const int8_t *)from->shift)[o];
        int16_t *panel = product->weights + place / LANES * pairs * LANES * 2;
        const int8_t *row = (const int8_t *)from->weight + o * inputs;
        for (int s = 0; s < shape->segments; s++)
            for (int c = 0; c < shape->channels; c++) {
                size_t k = (size_t)s * width + c;
                panel[(k / 2 * LANES + place % LANES) * 2 + k % 2] = row[(size_t)s * shape->channels + c];
            }
    }
    return NULL;
}

/* A table of int8 [rows][channels], with padded rows. Returns as `pack` does. */
static const char *pack_table(Memory **memory, int8_t **table, const char *from, size_t size, int rows, int channels) {
    size_t width = (size_t)padded(channels);
    if (size != (size_t)rows * channels)
        return "a table has a wrong size";
    *table = allocate(memory, (size_t)rows * width, 1);
    if (!*table)
        return "";
    for (int row = 0; row < rows; row++)
        memcpy(*table + row * width, from + (size_t)row * channels, (size_t)channels);
    return NULL;
}

/* ---- The prior. */

typedef struct {
    int size;                   /* codes in use */
    Product head, out;
    int8_t *embedding, *update; /* [size][width]; update is NULL for the last codebook */
} Book;

struct Level;

typedef struct {
    Memory *memory;
    const struct Level *level;
    int width, head_width;       /* channels of the trunk and of the heads, padded */
    int layers;                  /* gated blocks; the first is the entry */
    int books;
    Product *gates, *projects;   /* [layers] */
    Product state;
    Book *book;                  /* [books] */
    uint32_t exponentials[EXP_SIZE];
} Prior;

/* ---- A level: the inner loops, compiled for one instruction set. `_native_level.h` and `_native_counts.h` have them. */

typedef struct Level {
    const char *name;
    int (*supported)(void);
    /* sums [rows][panels * LANES] of the products of inputs[segment * CHUNK + row], without bias */
    void (*multiply)(const Product *, const int16_t *const *inputs, int rows, int32_t *sums);
    /* floor((sums + bias) / 2^shift), limited to low .. high */
    void (*finish)(const Product *, const int32_t *sums, int low, int high, int16_t *out);
    /* the gated units of a block, from the sums of its gate */
    void (*gate)(const Product *, const int32_t *sums, int16_t *out);
    /* int32 limited to -127 .. 127 */
    void (*narrow)(const int32_t *from, size_t size, int16_t *out);
    /* sums += a row of a table */
    void (*add)(int32_t *sums, const int8_t *row, int width);
    /* levels = min(255, max logit - logit), from the sums of an output; the sums are overwritten */
    void (*levels)(const Product *, int32_t *sums, uint8_t *levels);
    /* weights = exponentials of the levels; returns their sum */
    uint64_t (*weigh)(const uint32_t *exponentials, const uint8_t *levels, int size, uint32_t *weights);
    /* weights -> counts, in place, and the sums of the counts before each panel [panels + 1] */
    void (*count)(uint32_t *weights, int size, int shift, uint32_t *before);
    /* how many of the edges of `count` codes are at most the quantile; the codes are first, first + step and so on,
       `before` are the sums of the counts before them */
    int (*edges)(const uint32_t *before, int count, int first, int step, float scale, uint32_t quantile);
} Level;

#endif
