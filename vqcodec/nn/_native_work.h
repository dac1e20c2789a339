/* What the parts of the native networks pass to each other. */

#ifndef VQCODEC_NN_NATIVE_WORK_H
#define VQCODEC_NN_NATIVE_WORK_H

#include <float.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(__GNUC__) || defined(_MSC_VER)
#define RESTRICT __restrict
#else
#define RESTRICT restrict
#endif

enum {
    TILE = 4,                   /* outputs along a side of a tile */
    TAPS = 6,                   /* inputs along a side of a tile */
    FREQUENCIES = TAPS * TAPS,  /* products of a tile */
    PLACES = TILE * TILE,       /* positions of a tile */
    STEP = 24,                  /* the most tiles that are computed together; they share each reading of the weights */
    ROWS = 24,                  /* positions of a 1x1 product that are computed together: a multiple of every `row_x` */
    MAX_CHANNELS = 1 << 14,
    AHEAD = 8,                  /* cache lines of weights that are fetched ahead */
    LINE = 16                   /* floats of a cache line */
};

/* Matrices [count][inputs][outputs], packed in panels [count][panels][inputs][lanes of a panel], zeros behind the last
   output. `bias`: [panels * lanes of a panel]. */
typedef struct {
    const float *weights, *bias;
    int inputs, outputs;
} Matrix;

/* Positions [rows][columns], each of some segments of neighbouring floats. Strides are in floats. */
typedef struct {
    float *start;
    ptrdiff_t row, column, segment;
    int segments, length;
} Side;

enum { CONVOLVE, FORWARD, BACK_INSIDE, BACK_OUTSIDE };

/* A strip of tiles of a grid. x and y are arrays [4 * rows + 2][4 * columns + 2][channels] of all tiles. */
typedef struct {
    int action, rectify;
    Matrix conv, out;             /* 3x3 in 36 matrices; 1x1 */
    const float *x;
    float *y;
    int rows, columns;            /* of the grid, in tiles */
    int top, bottom, left, right; /* of the strip, exclusive at the end */
    uint16_t *inner, *outer;      /* signs [tiles of the strip][16][vectors]: before the inner ReLU, before the block */
    float *scratch;
} Strip;

typedef struct {
    Matrix matrix;
    Side inputs[2], outputs[2];
    int ins, outs, rectify, rows, columns; /* rectify: max(x, 0) of the last input */
    float *scratch;
} Pointwise;

/* The choice of the nearest of K codes for N latents. */
typedef struct {
    const float *latents, *scale, *table; /* [N] of `stride` floats; [N] or NULL; [dims + 1][padded K] */
    const void *costs;                    /* [N][cost_stride] of uint8 or float, or NULL */
    ptrdiff_t count, stride, cost_stride;
    int dims, size, bytes;                /* bytes: whether the costs are uint8 */
    int32_t *chosen;
} Choice;

/* The functions of an instruction set. */
typedef struct {
    const char *name;
    int (*supported)(void); /* NULL: always */
    int lanes, panel;       /* floats of a vector, of a panel */
    void (*pack)(const float *kernels, int taps, int inputs, int outputs, float *packed);
    void (*strip)(const Strip *);
    void (*pointwise)(const Pointwise *);
    void (*choose)(const Choice *);
} Level;

static inline size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }

/* Floats between the values of two frequencies. The odd line keeps them off the same sets of the caches. */
static inline size_t frequency_stride(size_t tiles, size_t channels) { return tiles * channels + LINE; }

/* The scratch that a strip needs, in floats: transformed inputs, their products, results inside the block, and
   inputs and outputs of a 1x1 product. */
static inline size_t strip_scratch(const Level *level, const Matrix *conv, const Matrix *out) {
    size_t panel = (size_t)level->panel;
    size_t inputs = round_up((size_t)conv->inputs, panel), hidden = round_up((size_t)conv->outputs, panel);
    size_t ins = round_up((size_t)out->inputs, panel), outs = round_up((size_t)out->outputs, panel);
    return FREQUENCIES * frequency_stride(STEP, inputs) + FREQUENCIES * frequency_stride(STEP, hidden) +
           STEP * PLACES * hidden + ROWS * (ins + outs) + LINE;
}


static inline float *aligned(float *p) { return (float *)(((uintptr_t)p + 63) & ~(uintptr_t)63); }

/* Where position n of a strip, tile by tile, lies in an array of the grid: the number of positions before it. */
static inline ptrdiff_t place_of(const Strip *strip, int n) {
    int across = strip->right - strip->left, tile = n / PLACES, place = n % PLACES;
    ptrdiff_t row = 1 + TILE * (ptrdiff_t)(strip->top + tile / across) + place / TILE;
    ptrdiff_t column = 1 + TILE * (ptrdiff_t)(strip->left + tile % across) + place % TILE;
    return row * (TILE * (ptrdiff_t)strip->columns + 2) + column;
}

#endif
