/* Codes <-> payloads in native code: the integer prior (integer_prior.py), the coding order (wavefront.py) and the
   range coder (range_coder.py), with the same integers and words. native.py is the interface to it.

   Units of coding go through the waves together, so that the weights are read once for the cells of all of them:

       wave of unit 0   wave of unit 1          the features of a cell lie in the ring of their layer, in the slab of
       . . 4            . . 4 5                 the cell's wave. A neighbour (di, dj) is in the slab of the wave
       . 3 4 5 6        . 3 4                   t + dj + 2 di. Rings hold as many slabs as the taps reach back.
       4 5 6            4
       |______ cells of wave 4: row by row, unit by unit ______|

   The files, from the bottom:
       _native_prior.h         memory, packed weights, validation; the table of functions of a level
       _native_range_coder.h   intervals <-> words
       _native_kernels.h       matrix products for each instruction set
       _native_level.h         the same for all sizes, with rounding and gates, compiled for each instruction set
       _native_counts.h        logits -> levels -> counts -> a code
       _native.c               waves, Python's functions

   Everything that comes from Python is validated here again: no argument, code or payload leads out of bounds. Python's
   lock is not held while codes are coded; then only C memory and immutable bytes are used. */

#define PY_SSIZE_T_CLEAN /* setup.py sets Py_LIMITED_API: only functions of Python 3.10's stable interface are used */
#include <Python.h>

#include <float.h>

/* float32 is part of the format: no wider intermediates, no reciprocals instead of divisions. */
#if FLT_EVAL_METHOD != 0 || defined(__FAST_MATH__)
#error "vqcodec needs float32 arithmetic as IEEE 754 has it; without this module, numpy does the same"
#endif
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3") /* -O2 of some versions leaves the loops over LANES as they are */
#endif

#include "_native_prior.h"
#include "_native_range_coder.h"
#include "_native_kernels.h"
#include "_native_counts.h"

/* ---- Levels, from the slowest. */

#define LEVEL(name) name##_plain
#define LEVEL_NAME "plain C"
#define LEVEL_SUPPORTED NULL
#define TARGET
#define ROWS(name) name##_plain
#include "_native_level.h"

#ifdef HAVE_NEON
#define LEVEL(name) name##_neon
#define LEVEL_NAME "neon"
#define LEVEL_SUPPORTED NULL
#define TARGET
#define ROWS(name) name##_plain
#define KERNEL kernel_neon
#define TILE_ROWS TILE_ROWS_NEON
#define TILE_PANELS 1
#include "_native_level.h"
#endif

#ifdef HAVE_X86
#define LEVEL(name) name##_sse2
#define LEVEL_NAME "sse2"
#define LEVEL_SUPPORTED NULL
#define TARGET
#define ROWS(name) name##_plain
#define KERNEL kernel_sse2
#define TILE_ROWS TILE_ROWS_128
#define TILE_PANELS 1
#include "_native_level.h"

#define LEVEL(name) name##_avx2
#define LEVEL_NAME "avx2"
#define LEVEL_SUPPORTED has_avx2
#define TARGET WITH("avx2")
#define ROWS(name) name##_avx2
#define KERNEL kernel_avx2
#define TILE_ROWS TILE_ROWS_256
#define TILE_PANELS 1
#include "_native_level.h"
#endif

#ifdef HAVE_AVX_VNNI
#define LEVEL(name) name##_avx_vnni
#define LEVEL_NAME "avx-vnni"
#define LEVEL_SUPPORTED has_avx_vnni
#define TARGET WITH("avx2,avxvnni")
#define ROWS(name) name##_avx2
#define KERNEL kernel_avx_vnni
#define TILE_ROWS TILE_ROWS_256
#define TILE_PANELS 1
#include "_native_level.h"
#endif

#ifdef HAVE_AVX512
#define LEVEL(name) name##_avx512
#define LEVEL_NAME "avx512"
#define LEVEL_SUPPORTED has_avx512
#define TARGET WITH(AVX512)
#define ROWS(name) name##_avx2
#define KERNEL kernel_avx512
#define TILE_ROWS TILE_ROWS_512
#define TILE_PANELS 2
#include "_native_level.h"

#define LEVEL(name) name##_avx512_vnni
#define LEVEL_NAME "avx512-vnni"
#define LEVEL_SUPPORTED has_avx512_vnni
#define TARGET WITH(AVX512_VNNI)
#define ROWS(name) name##_avx2
#define KERNEL kernel_avx512_vnni
#define TILE_ROWS TILE_ROWS_512
#define TILE_PANELS 2
#include "_native_level.h"
#endif

static const Level *const LEVELS[] = {
    &level_plain,
#ifdef HAVE_NEON
    &level_neon,
#endif
#ifdef HAVE_X86
    &level_sse2, &level_avx2,
#endif
#ifdef HAVE_AVX_VNNI
    &level_avx_vnni,
#endif
#ifdef HAVE_AVX512
    &level_avx512, &level_avx512_vnni,
#endif
};
#define LEVEL_COUNT (sizeof LEVELS / sizeof *LEVELS)

/* ---- The check of a level against plain C. */

#define CHECK_PANELS 5
#define CHECK_SIZE (CHECK_PANELS * LANES - 3)
#define CHECK_SEGMENTS 3

static uint32_t next_number(uint32_t *state) { /* Marsaglia 2003, "Xorshift RNGs" */
    *state ^= *state << 13;
    *state ^= *state >> 17;
    return *state ^= *state << 5;
}

typedef struct {
    uint32_t weights[CHECK_PANELS * LANES], before[2 * LANES];
    uint64_t total;
    int32_t sums[CHUNK][CHECK_PANELS * LANES], logits[CHECK_PANELS * LANES];
    int16_t finished[CHECK_PANELS * LANES], gated[CHECK_PANELS * LANES], narrowed[CHECK_PANELS * LANES];
    int32_t added[CHECK_PANELS * LANES];
    uint8_t levels[CHECK_PANELS * LANES];
    int found;
} Checked;

static void compute_checked(const Level *level, const Product *product, const int16_t *const *inputs, int rows,
                            Checked *out) {
    uint32_t exponentials[EXP_SIZE];
    for (int d = 0; d < EXP_SIZE; d++)
        exponentials[d] = (uint32_t)EXP_MAX / (uint32_t)(d * d + 1);
    memset(out, 0, sizeof *out);
    level->multiply(product, inputs, rows, out->sums[0]);
    level->finish(product, out->sums[0], -WEIGHT_MAX, WEIGHT_MAX, out->finished);
    level->gate(product, out->sums[0], out->gated);
    level->narrow(out->sums[0], CHECK_PANELS * LANES, out->narrowed);
    memcpy(out->added, out->sums[0], sizeof out->added);
    level->add(out->added, (const int8_t *)product->weights, CHECK_PANELS * LANES);
    memcpy(out->logits, out->sums[rows - 1], sizeof out->logits);
    level->levels(product, out->logits, out->levels);
    out->total = level->weigh(exponentials, out->levels, CHECK_SIZE, out->weights);
    level->count(out->weights, CHECK_SIZE, 3, out->before);
    out->found = level->edges(out->before, CHECK_PANELS, 0, LANES, 3.7f, out->before[CHECK_PANELS] * 2);
}

/* Whether the level computes the same as plain C, for pseudo-random numbers and every number of rows. */
static int is_equal_to_plain(const Level *level) {
    Memory *memory = NULL;
    uint32_t state = 2463534242u;
    Product product = {CHECK_SEGMENTS, LANES, CHECK_SIZE, CHECK_PANELS, LANES, NULL, NULL, NULL};
    size_t lanes = CHECK_PANELS * LANES, pairs = CHECK_SEGMENTS * LANES / 2;
    const int16_t *inputs[CHECK_SEGMENTS * CHUNK];
    Checked *checked = allocate(&memory, 2, sizeof *checked);
    int16_t *rows = allocate(&memory, CHECK_SEGMENTS * CHUNK * LANES, sizeof *rows);
    product.weights = allocate(&memory, lanes * pairs * 2, sizeof(int16_t));
    product.bias = allocate(&memory, lanes, sizeof(int32_t));
    product.shift = allocate(&memory, lanes, sizeof(int32_t));
    int equal = checked && rows && product.weights && product.bias && product.shift;
    for (size_t i = 0; equal && i < lanes * pairs * 2; i++)
        product.weights[i] = (int16_t)(next_number(&state) % (2 * WEIGHT_MAX + 1)) - WEIGHT_MAX;
    for (size_t i = 0; equal && i < lanes; i++) {
        product.bias[i] = (int32_t)(next_number(&state) % 20000) - 10000;
        product.shift[i] = (int32_t)(next_number(&state) % (i % 2 ? 13 : MAX_SHIFT + 1));
    }
    for (int i = 0; equal && i < CHECK_SEGMENTS * CHUNK; i++) {
        inputs[i] = rows + i * LANES;
        for (int k = 0; k < LANES; k++)
            rows[i * LANES + k] = (int16_t)(next_number(&state) % (2 * WEIGHT_MAX + 1)) - WEIGHT_MAX;
    }
    for (int count = 1; equal && count <= CHUNK; count += count < 9 ? 1 : 13) {
        compute_checked(&level_plain, &product, inputs, count, &checked[0]);
        compute_checked(level, &product, inputs, count, &checked[1]);
        equal = memcmp(&checked[0], &checked[1], sizeof *checked) == 0;
    }
    release(memory);
    return equal;
}

/* Whether this machine has the level, and has it right. Found out once. Called with Python's lock. */
static int is_usable(size_t index) {
    static signed char known[LEVEL_COUNT];
    if (!known[index]) {
        const Level *level = LEVELS[index];
        int usable = index == 0 || ((!level->supported || level->supported()) && is_equal_to_plain(level));
        known[index] = usable ? 1 : -1;
    }
    return known[index] > 0;
}

/* ---- A job: units that go through the waves together. */

enum { READ, WRITE, PRICE };
enum { DONE, NO_MEMORY, CONTRADICTION, SURPLUS };

typedef struct {
    int rows, columns;
    size_t slot;             /* of the first row in a slab */
    const char *coded;       /* [rows][columns]: 1 where the unit has codes, else 0; NULL: everywhere */
    int32_t *codes;          /* [books][rows][columns]; only read where codes are written or priced */
    Decoder decoder;
    Encoder encoder;
} Unit;

typedef struct {
    Unit *unit;
    int row, column;
} Cell;

/* The features of the last waves: [depth][slots][width]. */
typedef struct {
    int16_t *data;
    int depth;
} Ring;

typedef struct {
    const Prior *prior;
    int action, units;
    Unit *unit;
    size_t slots;
    Memory *memory;
    Cell *cells;                /* [slots], of the current wave */
    size_t count;
    Ring embeddings, *features; /* features: [layers - 1], of the blocks after the entry */
    int32_t *states, *totals;   /* [slots][width]: state, and sum of embeddings, of the cells of the wave */
    const int16_t **inputs;     /* [ENTRY_TAPS * CHUNK] */
    int16_t *zeros, *h, *units_out; /* [width], [CHUNK][width], [CHUNK][width or head_width] */
    int32_t *sums;              /* [CHUNK][largest number of outputs] */
    int32_t *known;             /* [CHUNK], codes of a codebook */
    uint8_t *levels;            /* [lanes of the largest codebook] */
    uint32_t *weights, *before; /* [lanes], and the sums before each panel */
    uint8_t **prices;           /* [books] -> [rows * columns][size]: levels, where they are asked for */
    char **sums_out;            /* [books] -> uint64 [rows * columns]: sums of the exponentials; not aligned */
} Job;

static int depth_of(const int8_t (*taps)[2], int count) {
    int depth = 1;
    for (int i = 0; i < count; i++) {
        int back = 1 - (taps[i][1] + 2 * taps[i][0]);
        depth = back > depth ? back : depth;
    }
    return depth;
}

static int largest_panels(const Prior *prior) {
    int most = prior->gates[0].panels;
    for (int g = 0; g < prior->books; g++) {
        int head = prior->book[g].head.panels, out = prior->book[g].out.panels;
        most = head > most ? head : most;
        most = out > most ? out : most;
    }
    return most;
}

/* Allocate the arrays of a job whose units are set. Returns whether there is memory. */
static int prepare(Job *job) {
    const Prior *prior = job->prior;
    size_t width = (size_t)prior->width, panels = (size_t)largest_panels(prior);
    size_t wide = (size_t)(prior->width > prior->head_width ? prior->width : prior->head_width);
    Memory **memory = &job->memory;
    int ok = 1;
    job->embeddings.depth = depth_of(ENTRY_OFFSETS, ENTRY_TAPS);
    job->features = allocate(memory, (size_t)prior->layers, sizeof *job->features);
    if (!job->features || job->slots > SIZE_MAX / width / 64)
        return 0;
    for (int b = 0; b < prior->layers - 1; b++) {
        Ring *ring = &job->features[b];
        ring->depth = depth_of(BLOCK_OFFSETS, BLOCK_TAPS);
        ring->data = allocate(memory, (size_t)ring->depth * job->slots * width, sizeof *ring->data);
        ok &= ring->data != NULL;
    }
    job->embeddings.data = allocate(memory, (size_t)job->embeddings.depth * job->slots * width, sizeof(int16_t));
    job->cells = allocate(memory, job->slots, sizeof *job->cells);
    job->states = allocate(memory, job->slots * width, sizeof *job->states);
    job->totals = allocate(memory, job->slots * width, sizeof *job->totals);
    job->inputs = allocate(memory, ENTRY_TAPS * CHUNK, sizeof *job->inputs);
    job->zeros = allocate(memory, width, sizeof *job->zeros);
    job->h = allocate(memory, CHUNK * width, sizeof *job->h);
    job->units_out = allocate(memory, CHUNK * wide, sizeof *job->units_out);
    job->sums = allocate(memory, CHUNK * panels * LANES, sizeof *job->sums);
    job->known = allocate(memory, CHUNK, sizeof *job->known);
    job->levels = allocate(memory, panels * LANES, sizeof *job->levels);
    job->weights = allocate(memory, panels * LANES, sizeof *job->weights);
    job->before = allocate(memory, panels + 2 * LANES, sizeof *job->before);
    return ok && job->embeddings.data && job->cells && job->states && job->totals && job->inputs && job->zeros &&
           job->h && job->units_out && job->sums && job->known && job->levels && job->weights && job->before;
}

/* ---- The trunk of the prior. */

static int is_coded(const Unit *unit, int row, int column) {
    return !unit->coded || unit->coded[(size_t)row * (size_t)unit->columns + (size_t)column];
}

/* The features of a cell's neighbour at an offset, or of the cell itself at (0, 0); NULL outside of the unit, and where
   it has no codes: the ring has features of an older wave there. */
static int16_t *features_at(const Job *job, const Ring *ring, const Cell *cell, int di, int dj) {
    int row = cell->row + di, column = cell->column + dj;
    if (row < 0 || column < 0 || column >= cell->unit->columns || !is_coded(cell->unit, row, column))
        return NULL;
    size_t slab = (size_t)((row * 2 + column) % ring->depth);
    return ring->data + (slab * job->slots + cell->unit->slot + (size_t)row) * (size_t)job->prior->width;
}

/* The rows of a matrix as the inputs of a product of one segment. */
static void take_rows(Job *job, const int16_t *rows, int width, int count) {
    for (int n = 0; n < count; n++)
        job->inputs[n] = rows + (size_t)n * (size_t)width;
}

/* A gated block: the features of the neighbours -> job->h. */
static void run_block(Job *job, int layer, const Cell *cells, int count) {
    const Prior *prior = job->prior;
    const Product *gate = &prior->gates[layer], *project = &prior->projects[layer];
    const Ring *ring = layer ? &job->features[layer - 1] : &job->embeddings;
    const int8_t (*taps)[2] = layer ? BLOCK_OFFSETS : ENTRY_OFFSETS;
    int width = prior->width;
    for (int k = 0; k < gate->segments; k++)
        for (int n = 0; n < count; n++) {
            const int16_t *at = features_at(job, ring, &cells[n], taps[k][0], taps[k][1]);
            job->inputs[k * CHUNK + n] = at ? at : job->zeros;
        }
    prior->level->multiply(gate, job->inputs, count, job->sums);
    for (int n = 0; n < count; n++)
        prior->level->gate(gate, job->sums + (size_t)n * gate->panels * LANES, job->units_out + (size_t)n * width);
    take_rows(job, job->units_out, width, count);
    prior->level->multiply(project, job->inputs, count, job->sums);
    for (int n = 0; n < count; n++)
        prior->level->finish(project, job->sums + (size_t)n * width, -WEIGHT_MAX, WEIGHT_MAX,
                             job->units_out + (size_t)n * width);
}

static int clamp(int x) { return x < -WEIGHT_MAX ? -WEIGHT_MAX : x > WEIGHT_MAX ? WEIGHT_MAX : x; }

/* The states of some cells of the wave. */
static void run_trunk(Job *job, const Cell *cells, int count, int32_t *states) {
    const Prior *prior = job->prior;
    size_t width = (size_t)prior->width, size = (size_t)count * width;
    for (int layer = 0; layer < prior->layers; layer++) {
        run_block(job, layer, cells, count);
        for (size_t i = 0; i < size; i++)
            job->h[i] = (int16_t)(layer ? clamp(job->h[i] + job->units_out[i]) : job->units_out[i]);
        if (layer < prior->layers - 1) /* the input of the next block, at the cells of this wave and of later ones */
            for (int n = 0; n < count; n++)
                memcpy(features_at(job, &job->features[layer], &cells[n], 0, 0), job->h + n * width, 2 * width);
    }
    take_rows(job, job->h, prior->width, count);
    prior->level->multiply(&prior->state, job->inputs, count, job->sums);
    for (int n = 0; n < count; n++)
        prior->level->finish(&prior->state, job->sums + n * width, -WEIGHT_MAX, WEIGHT_MAX, job->units_out + n * width);
    for (size_t i = 0; i < size; i++)
        states[i] = job->units_out[i];
}

/* ---- Codes. */

/* Where a code of a cell lies in the codes of its unit. */
static int32_t *code_at(const Cell *cell, int g) {
    size_t area = (size_t)cell->unit->rows * (size_t)cell->unit->columns;
    return cell->unit->codes + (size_t)g * area + (size_t)cell->row * (size_t)cell->unit->columns + cell->column;
}

/* Counts of a cell in job->weights, with the sums before each panel in job->before; returns float32's scale. */
static float count_codes(Job *job, const Book *book, int32_t *sums) {
    const Level *level = job->prior->level;
    level->levels(&book->out, sums, job->levels);
    uint64_t total = level->weigh(job->prior->exponentials, job->levels, book->size, job->weights);
    int digits = 0;
    for (; total; total >>= 1)
        digits++;
    level->count(job->weights, book->size, digits - COUNT_BITS, job->before);
    return (float)(int32_t)(TOTAL - (uint32_t)book->size) / (float)(int32_t)job->before[book->out.panels];
}

static Interval interval_of(const Job *job, const Book *book, float scale, int code) {
    uint32_t sum = job->before[code / LANES];
    for (int k = code / LANES * LANES; k < code; k++)
        sum += job->weights[k];
    Interval interval = {code ? edge_before(sum, scale, (uint32_t)code) : 0, TOTAL};
    if (code + 1 < book->size)
        interval.right = edge_before(sum + job->weights[code], scale, (uint32_t)code + 1);
    return interval;
}

/* The code whose interval holds the quantile: first its panel, then its place in the panel. */
static int find_code(const Job *job, const Book *book, float scale, uint32_t quantile) {
    const Level *level = job->prior->level;
    int first = (level->edges(job->before, book->out.panels, 0, LANES, scale, quantile) - 1) * LANES;
    uint32_t sums[LANES], sum = job->before[first / LANES];
    for (int i = 0; i < LANES; i++) {
        sums[i] = sum;
        sum += job->weights[first + i];
    }
    int count = book->size - first < LANES ? book->size - first : LANES;
    return first + level->edges(sums, count, first, 1, scale, quantile) - 1;
}

static void put_sum(char *sums, size_t at, uint64_t sum) { memcpy(sums + at * sizeof sum, &sum, sizeof sum); }

/* Read the code of a cell with these sums of the output product, or write or price it. */
static int code_cell(Job *job, int g, const Cell *cell, int32_t *sums) {
    const Book *book = &job->prior->book[g];
    int32_t *code = code_at(cell, g);
    if (job->action == PRICE) {
        size_t at = (size_t)(code - cell->unit->codes) - (size_t)g * cell->unit->rows * (size_t)cell->unit->columns;
        job->prior->level->levels(&book->out, sums, job->levels);
        put_sum(job->sums_out[g], at,
                job->prior->level->weigh(job->prior->exponentials, job->levels, book->size, job->weights));
        memcpy(job->prices[g] + at * (size_t)book->size, job->levels, (size_t)book->size);
        return DONE;
    }
    float scale = count_codes(job, book, sums);
    if (job->action == WRITE) {
        encode(&cell->unit->encoder, interval_of(job, book, scale, *code));
        return DONE;
    }
    uint64_t quantile = decoder_quantile(&cell->unit->decoder);
    if (quantile >= TOTAL)
        return CONTRADICTION;
    *code = find_code(job, book, scale, (uint32_t)quantile);
    decoder_advance(&cell->unit->decoder, interval_of(job, book, scale, *code));
    return DONE;
}

/* Codebook g of some cells of the wave. */
static int code_book(Job *job, int g, const Cell *cells, int count, const int32_t *states) {
    const Prior *prior = job->prior;
    const Book *book = &prior->book[g];
    size_t width = (size_t)prior->width;
    prior->level->narrow(states, (size_t)count * width, job->h);
    take_rows(job, job->h, prior->width, count);
    prior->level->multiply(&book->head, job->inputs, count, job->sums);
    for (int n = 0; n < count; n++)
        prior->level->finish(&book->head, job->sums + (size_t)n * prior->head_width, 0, WEIGHT_MAX,
                             job->units_out + (size_t)n * prior->head_width);
    take_rows(job, job->units_out, prior->head_width, count);
    prior->level->multiply(&book->out, job->inputs, count, job->sums);
    for (int n = 0; n < count; n++) {
        int status = code_cell(job, g, &cells[n], job->sums + (size_t)n * book->out.panels * LANES);
        if (status != DONE)
            return status;
    }
    return DONE;
}

/* Add what a known code of a cell contributes to its state and to its embedding. */
static void add_code(const Prior *prior, const Book *book, int32_t code, int32_t *state, int32_t *total) {
    size_t row = (size_t)code * (size_t)prior->width;
    prior->level->add(total, book->embedding + row, prior->width);
    if (book->update)
        prior->level->add(state, book->update + row, prior->width);
}

/* ---- Waves. */

/* The cells of wave t that have codes, unit by unit, from the top. There may be none. */
static void list_cells(Job *job, int t) {
    job->count = 0;
    for (int u = 0; u < job->units; u++) {
        Unit *unit = &job->unit[u];
        int first = t < unit->columns ? 0 : (t - unit->columns) / 2 + 1; /* the first row with a column in the unit */
        for (int row = first; row < unit->rows && 2 * row <= t; row++)
            if (is_coded(unit, row, t - 2 * row))
                job->cells[job->count++] = (Cell){unit, row, t - 2 * row};
    }
}

static int run_wave(Job *job) {
    const Prior *prior = job->prior;
    size_t width = (size_t)prior->width;
    for (size_t n = 0; n < job->count; n += CHUNK)
        run_trunk(job, job->cells + n, job->count - n < CHUNK ? (int)(job->count - n) : CHUNK, job->states + n * width);
    memset(job->totals, 0, job->count * width * sizeof *job->totals);
    for (int g = 0; g < prior->books; g++) {
        int status = DONE;
        for (size_t n = 0; n < job->count && prior->book[g].size > 1; n += CHUNK) {
            int count = job->count - n < CHUNK ? (int)(job->count - n) : CHUNK;
            status = code_book(job, g, job->cells + n, count, job->states + n * width);
            if (status != DONE)
                return status;
        }
        for (size_t n = 0; n < job->count; n++)
            add_code(prior, &prior->book[g], *code_at(&job->cells[n], g), job->states + n * width,
                     job->totals + n * width);
    }
    for (size_t n = 0; n < job->count; n++) {
        int16_t *embedding = features_at(job, &job->embeddings, &job->cells[n], 0, 0);
        prior->level->narrow(job->totals + n * width, width, embedding);
    }
    return DONE;
}

static int run_job(Job *job) {
    int waves = 0;
    for (int u = 0; u < job->units; u++) {
        int last = job->unit[u].columns + 2 * (job->unit[u].rows - 1);
        waves = last > waves ? last : waves;
    }
    for (int t = 0; t < waves; t++) {
        list_cells(job, t);
        int status = run_wave(job);
        if (status != DONE)
            return status;
    }
    for (int u = 0; u < job->units; u++) {
        if (job->action == READ && !decoder_may_end(&job->unit[u].decoder))
            return SURPLUS;
        if (job->action == WRITE) {
            encoder_finish(&job->unit[u].encoder);
            if (job->unit[u].encoder.failed)
                return NO_MEMORY;
        }
    }
    return DONE;
}

/* ---- Python's side: the prior. */

static const char CAPSULE[] = "vqcodec.coding._native.prior";

static void free_prior(Prior *prior) {
    if (prior) {
        release(prior->memory);
        free(prior);
    }
}

static void destroy(PyObject *capsule) { free_prior(PyCapsule_GetPointer(capsule, CAPSULE)); }

/* Raise what `pack` returned. */
static void raise(const char *wrong) {
    if (*wrong)
        PyErr_SetString(PyExc_ValueError, wrong);
    else
        PyErr_NoMemory();
}

/* Item `index` of a tuple as three bytes objects. */
static int get_tensors(PyObject *products, Py_ssize_t index, Tensors *tensors) {
    Py_ssize_t weight, bias, shift;
    PyObject *item = PyTuple_GetItem(products, index);
    if (!item)
        return 0;
    if (!PyTuple_Check(item)) {
        PyErr_SetString(PyExc_ValueError, "a product is a tuple of weight, bias and shift");
        return 0;
    }
    if (!PyArg_ParseTuple(item, "y#y#y#", &tensors->weight, &weight, &tensors->bias, &bias, &tensors->shift, &shift))
        return 0;
    tensors->weight_size = (size_t)weight;
    tensors->bias_size = (size_t)bias;
    tensors->shift_size = (size_t)shift;
    return 1;
}

static int load_product(Prior *prior, Product *product, PyObject *products, Py_ssize_t index, Shape shape) {
    Tensors tensors;
    if (!get_tensors(products, index, &tensors))
        return 0;
    const char *wrong = pack(&prior->memory, product, &tensors, &shape);
    if (wrong)
        raise(wrong);
    return !wrong;
}

static int load_table(Prior *prior, int8_t **table, PyObject *tables, Py_ssize_t index, int rows, int channels) {
    char *data;
    Py_ssize_t size;
    PyObject *item = PyTuple_GetItem(tables, index);
    if (!item || PyBytes_AsStringAndSize(item, &data, &size) < 0)
        return 0;
    const char *wrong = pack_table(&prior->memory, table, data, (size_t)size, rows, channels);
    if (wrong)
        raise(wrong);
    return !wrong;
}

/* The trunk: 2 products for each gated block, then that of the state. */
static int load_trunk(Prior *prior, PyObject *products, int channels) {
    prior->gates = allocate(&prior->memory, (size_t)prior->layers, sizeof(Product));
    prior->projects = allocate(&prior->memory, (size_t)prior->layers, sizeof(Product));
    if (!prior->gates || !prior->projects)
        return PyErr_NoMemory() != NULL;
    for (int i = 0; i < prior->layers; i++) {
        Shape gate = {i ? BLOCK_TAPS : ENTRY_TAPS, channels, 2 * channels, 2, WEIGHT_MAX, 0};
        Shape project = {1, channels, channels, 1, GATE_MAX, 0};
        if (!load_product(prior, &prior->gates[i], products, 2 * i, gate) ||
            !load_product(prior, &prior->projects[i], products, 2 * i + 1, project))
            return 0;
    }
    Shape state = {1, channels, channels, 1, WEIGHT_MAX, 0};
    return load_product(prior, &prior->state, products, 2 * prior->layers, state);
}

/* The codebooks: 2 products and 2 tables for each; the last has no table of updates. */
static int load_books(Prior *prior, PyObject *sizes, PyObject *products, PyObject *tables, int channels, int head) {
    prior->book = allocate(&prior->memory, (size_t)prior->books, sizeof(Book));
    if (!prior->book)
        return PyErr_NoMemory() != NULL;
    for (int g = 0; g < prior->books; g++) {
        Book *book = &prior->book[g];
        Py_ssize_t first = 2 * prior->layers + 1 + 2 * g;
        long size = PyLong_AsLong(PyTuple_GetItem(sizes, g));
        if (size < 1 || size > MAX_SIZE) {
            if (!PyErr_Occurred())
                PyErr_SetString(PyExc_ValueError, "a codebook has a size out of range");
            return 0;
        }
        book->size = (int)size;
        Shape to_hidden = {1, channels, head, 1, WEIGHT_MAX, 0};
        Shape to_logits = {1, head, book->size, 1, WEIGHT_MAX, INT32_MIN / 2}; /* padding: below every logit */
        if (!load_product(prior, &book->head, products, first, to_hidden) ||
            !load_product(prior, &book->out, products, first + 1, to_logits) ||
            !load_table(prior, &book->embedding, tables, 2 * g, book->size, channels))
            return 0;
        if (g < prior->books - 1 && !load_table(prior, &book->update, tables, 2 * g + 1, book->size, channels))
            return 0;
    }
    return 1;
}

static int load_exponentials(Prior *prior, const char *data, Py_ssize_t size) {
    int fits = size == (Py_ssize_t)sizeof prior->exponentials;
    if (fits)
        memcpy(prior->exponentials, data, sizeof prior->exponentials);
    for (int d = 0; fits && d < EXP_SIZE; d++)
        fits = prior->exponentials[d] <= EXP_MAX && prior->exponentials[0] == EXP_MAX;
    if (!fits)
        PyErr_SetString(PyExc_ValueError, "the table of exponentials is wrong");
    return fits;
}

/* The level of this name, or the last usable one for "". */
static const Level *find_level(const char *name) {
    for (size_t i = LEVEL_COUNT; i-- > 0;)
        if ((!*name || strcmp(name, LEVELS[i]->name) == 0) && is_usable(i))
            return LEVELS[i];
    PyErr_Format(PyExc_ValueError, "this machine has no level \"%s\"", name);
    return NULL;
}

PyDoc_STRVAR(load_doc,
    "load(level, channels, head_channels, blocks, sizes, products, tables, exponentials) -> prior\n\n"
    "level: one of levels(), or '' for the best. sizes: tuple of the number of codes of each codebook. products: tuple\n"
    "of (weight int8 [O, I], bias int32 [O], shift int8 [O]), as bytes: gate and project of each block, state, head and\n"
    "out of each codebook. tables: tuple of bytes, embedding and update int8 [K, C] of each codebook.\n"
    "exponentials: uint32 [256]. Raises ValueError for sizes that do not fit and numbers out of range.");

static PyObject *load(PyObject *module, PyObject *args) {
    const char *level, *data;
    int channels, head, layers;
    PyObject *sizes, *products, *tables;
    Py_ssize_t size;
    (void)module;
    if (!PyArg_ParseTuple(args, "siiiO!O!O!y#", &level, &channels, &head, &layers, &PyTuple_Type, &sizes,
                          &PyTuple_Type, &products, &PyTuple_Type, &tables, &data, &size))
        return NULL;
    Py_ssize_t books = PyTuple_Size(sizes);
    if (channels < 1 || channels > MAX_CHANNELS || head < 1 || head > MAX_CHANNELS || layers < 1 ||
        layers > MAX_CHANNELS || books < 1 || books > MAX_BOOKS || PyTuple_Size(products) != 2 * layers + 1 + 2 * books ||
        PyTuple_Size(tables) != 2 * books) {
        PyErr_SetString(PyExc_ValueError, "the sizes of the prior are out of range or contradict each other");
        return NULL;
    }
    Prior *prior = calloc(1, sizeof *prior);
    if (!prior)
        return PyErr_NoMemory();
    prior->level = find_level(level);
    prior->layers = layers;
    prior->books = (int)books;
    prior->width = padded(channels);
    prior->head_width = padded(head);
    PyObject *capsule = NULL;
    if (prior->level && load_exponentials(prior, data, size) && load_trunk(prior, products, channels) &&
        load_books(prior, sizes, products, tables, channels, head))
        capsule = PyCapsule_New(prior, CAPSULE, destroy);
    if (!capsule)
        free_prior(prior);
    return capsule;
}

/* ---- Python's side: jobs. */

#define MAX_SIDE (1 << 20)
#define MAX_CODES (1 << 28)
#define MAX_UNITS 4096

static void finish_job(Job *job) {
    for (int u = 0; u < job->units && job->unit; u++)
        free(job->unit[u].encoder.words);
    release(job->memory);
}

/* Set the prior and the shapes of a job from Python's arguments. `shapes`: tuple of (rows, columns). */
static int start_job(Job *job, int action, PyObject *capsule, PyObject *shapes, Py_ssize_t items) {
    *job = (Job){0};
    job->action = action;
    job->prior = PyCapsule_GetPointer(capsule, CAPSULE);
    if (!job->prior)
        return 0;
    Py_ssize_t units = PyTuple_Size(shapes);
    if (units != items || units > MAX_UNITS) {
        PyErr_SetString(PyExc_ValueError, "there must be one shape for each unit");
        return 0;
    }
    job->unit = allocate(&job->memory, (size_t)units + 1, sizeof *job->unit);
    if (!job->unit)
        return PyErr_NoMemory() != NULL;
    for (Py_ssize_t u = 0; u < units; u++) {
        Unit *unit = &job->unit[u];
        PyObject *shape = PyTuple_GetItem(shapes, u);
        if (!PyTuple_Check(shape)) {
            PyErr_SetString(PyExc_ValueError, "a shape is a tuple of two numbers");
            return 0;
        }
        if (!PyArg_ParseTuple(shape, "ii", &unit->rows, &unit->columns))
            return 0;
        if (unit->rows < 1 || unit->rows > MAX_SIDE || unit->columns < 1 || unit->columns > MAX_SIDE ||
            (int64_t)unit->rows * unit->columns > MAX_CODES / job->prior->books) {
            PyErr_SetString(PyExc_ValueError, "a shape is out of range");
            return 0;
        }
        unit->slot = job->slots;
        job->slots += (size_t)unit->rows;
        job->units++;
    }
    return 1;
}

/* Set the masks of the units: a tuple with None or bytes for each. The bytes must outlive the job. */
static int take_masks(Job *job, PyObject *masks) {
    if (PyTuple_Size(masks) != job->units) {
        PyErr_SetString(PyExc_ValueError, "there must be one mask, or None, for each unit");
        return 0;
    }
    for (int u = 0; u < job->units; u++) {
        Unit *unit = &job->unit[u];
        PyObject *mask = PyTuple_GetItem(masks, u);
        char *data;
        Py_ssize_t size;
        if (mask == Py_None)
            continue;
        if (PyBytes_AsStringAndSize(mask, &data, &size) < 0)
            return 0;
        int fits = (size_t)size == (size_t)unit->rows * (size_t)unit->columns;
        for (Py_ssize_t i = 0; fits && i < size; i++)
            fits = data[i] == 0 || data[i] == 1;
        if (!fits) {
            PyErr_SetString(PyExc_ValueError, "the mask of a unit must have a 0 or 1 for each of its positions");
            return 0;
        }
        unit->coded = data;
    }
    return 1;
}

static size_t codes_of(const Job *job, const Unit *unit) {
    return (size_t)job->prior->books * (size_t)unit->rows * (size_t)unit->columns;
}

/* Copy the codes of a unit from bytes, and check them. */
static int take_codes(Job *job, Unit *unit, PyObject *bytes) {
    char *data;
    Py_ssize_t size;
    if (PyBytes_AsStringAndSize(bytes, &data, &size) < 0)
        return 0;
    size_t count = codes_of(job, unit), area = count / (size_t)job->prior->books;
    if ((size_t)size != count * sizeof *unit->codes) {
        PyErr_SetString(PyExc_ValueError, "the codes of a unit do not have its shape");
        return 0;
    }
    unit->codes = allocate(&job->memory, count, sizeof *unit->codes);
    if (!unit->codes)
        return PyErr_NoMemory() != NULL;
    memcpy(unit->codes, data, (size_t)size);
    for (size_t i = 0; i < count; i++)
        if (unit->codes[i] < 0 || unit->codes[i] >= job->prior->book[i / area].size) {
            PyErr_SetString(PyExc_ValueError, "a code is out of range");
            return 0;
        }
    return 1;
}

/* Run a job without Python's lock. Returns whether it succeeded; else an exception is set. */
static int run(Job *job) {
    int status;
    Py_BEGIN_ALLOW_THREADS
    status = prepare(job) ? run_job(job) : NO_MEMORY;
    Py_END_ALLOW_THREADS
    if (status == NO_MEMORY)
        PyErr_NoMemory();
    else if (status == CONTRADICTION)
        PyErr_SetString(PyExc_ValueError, "a unit's codes cannot be read: its words contradict the counts");
    else if (status == SURPLUS)
        PyErr_SetString(PyExc_ValueError, "a unit holds more data than its codes need");
    return status == DONE;
}

PyDoc_STRVAR(read_doc,
    "read(prior, payloads, shapes, masks) -> tuple of codes\n\n"
    "All are tuples with an item for each unit: bytes; (h, w); and None or bytes, uint8 [h, w], 1 at the positions that\n"
    "have codes and 0 elsewhere. The codes of a unit are bytes, int32 [G, h, w], 0 where it has none. Raises ValueError\n"
    "if a payload is damaged or holds more than its codes need, and for masks that do not fit.");

static PyObject *read_units(PyObject *module, PyObject *args) {
    PyObject *capsule, *payloads, *shapes, *masks, *result = NULL;
    Job job;
    (void)module;
    if (!PyArg_ParseTuple(args, "OO!O!O!", &capsule, &PyTuple_Type, &payloads, &PyTuple_Type, &shapes, &PyTuple_Type,
                          &masks))
        return NULL;
    PyObject *codes = PyTuple_New(PyTuple_Size(payloads));
    int ok = codes && start_job(&job, READ, capsule, shapes, PyTuple_Size(payloads)) && take_masks(&job, masks);
    if (!codes)
        return NULL;
    for (int u = 0; ok && u < job.units; u++) {
        char *data;
        Py_ssize_t size;
        size_t bytes = codes_of(&job, &job.unit[u]) * sizeof(int32_t);
        ok = PyBytes_AsStringAndSize(PyTuple_GetItem(payloads, u), &data, &size) == 0;
        PyObject *item = ok ? PyBytes_FromStringAndSize(NULL, (Py_ssize_t)bytes) : NULL;
        ok = item && PyTuple_SetItem(codes, u, item) == 0;
        if (ok) {
            job.unit[u].codes = memset(PyBytes_AsString(item), 0, bytes);
            decoder_start(&job.unit[u].decoder, data, (size_t)size);
        }
    }
    if (ok && run(&job))
        result = codes;
    else
        Py_DECREF(codes);
    finish_job(&job);
    return result;
}

/* The words of a unit as bytes, without the zero bytes at the end of the last word. */
static PyObject *payload_of(const Encoder *coder) {
    size_t size = coder->count * 4;
    for (int i = 0; i < 3 && size && !(coder->words[coder->count - 1] >> (24 - 8 * i)); i++)
        size--;
    PyObject *payload = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    char *data = payload ? PyBytes_AsString(payload) : NULL;
    for (size_t i = 0; data && i < size; i++)
        data[i] = (char)(coder->words[i / 4] >> 8 * (i % 4) & 255);
    return payload;
}

PyDoc_STRVAR(write_doc,
    "write(prior, codes, shapes, masks) -> tuple of payloads\n\n"
    "All are tuples with an item for each unit: bytes, int32 [G, h, w]; (h, w); and a mask or None, as in `read`.\n"
    "Raises ValueError for codes out of range, wherever they are, and for masks that do not fit.");

static PyObject *write_units(PyObject *module, PyObject *args) {
    PyObject *capsule, *codes, *shapes, *masks, *result = NULL;
    Job job;
    (void)module;
    if (!PyArg_ParseTuple(args, "OO!O!O!", &capsule, &PyTuple_Type, &codes, &PyTuple_Type, &shapes, &PyTuple_Type,
                          &masks))
        return NULL;
    int ok = start_job(&job, WRITE, capsule, shapes, PyTuple_Size(codes)) && take_masks(&job, masks);
    for (int u = 0; ok && u < job.units; u++) {
        ok = take_codes(&job, &job.unit[u], PyTuple_GetItem(codes, u));
        encoder_start(&job.unit[u].encoder);
    }
    if (ok && run(&job))
        result = PyTuple_New(job.units);
    for (int u = 0; result && u < job.units; u++) {
        PyObject *payload = payload_of(&job.unit[u].encoder);
        if (!payload || PyTuple_SetItem(result, u, payload) < 0)
            Py_CLEAR(result);
    }
    finish_job(&job);
    return result;
}

PyDoc_STRVAR(price_doc,
    "price(prior, codes, shape) -> (levels, sums)\n\n"
    "codes: bytes, int32 [G, h, w]; shape: (h, w). levels: tuple with, for each codebook, bytes: uint8 [h * w, K],\n"
    "min(255, largest logit - logit) given the codes before. sums: likewise, uint64 [h * w], of the exponentials.\n"
    "A codebook of one code has the level 0 everywhere.");

/* Make the bytes objects of `price`, and point the job at them. */
static int make_prices(Job *job, PyObject *levels, PyObject *sums) {
    size_t area = (size_t)job->unit[0].rows * (size_t)job->unit[0].columns;
    job->prices = allocate(&job->memory, (size_t)job->prior->books, sizeof *job->prices);
    job->sums_out = allocate(&job->memory, (size_t)job->prior->books, sizeof *job->sums_out);
    if (!job->prices || !job->sums_out)
        return PyErr_NoMemory() != NULL;
    for (int g = 0; g < job->prior->books; g++) {
        size_t size = (size_t)job->prior->book[g].size;
        if (area > (size_t)PY_SSIZE_T_MAX / 2 / (size > 8 ? size : 8)) {
            PyErr_SetString(PyExc_ValueError, "a shape is out of range");
            return 0;
        }
        PyObject *one = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(area * size));
        if (!one || PyTuple_SetItem(levels, g, one) < 0)
            return 0;
        PyObject *two = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)(area * sizeof(uint64_t)));
        if (!two || PyTuple_SetItem(sums, g, two) < 0)
            return 0;
        job->prices[g] = memset(PyBytes_AsString(one), 0, area * size);
        job->sums_out[g] = (char *)PyBytes_AsString(two);
        for (size_t i = 0; size == 1 && i < area; i++)
            put_sum(job->sums_out[g], i, EXP_MAX);
    }
    return 1;
}

static PyObject *price_unit(PyObject *module, PyObject *args) {
    PyObject *capsule, *codes, *shape, *result = NULL;
    Job job;
    (void)module;
    if (!PyArg_ParseTuple(args, "OO!O!", &capsule, &PyBytes_Type, &codes, &PyTuple_Type, &shape))
        return NULL;
    PyObject *shapes = PyTuple_Pack(1, shape);
    if (!shapes)
        return NULL;
    int ok = start_job(&job, PRICE, capsule, shapes, 1) && take_codes(&job, &job.unit[0], codes);
    PyObject *levels = ok ? PyTuple_New(job.prior->books) : NULL, *sums = levels ? PyTuple_New(job.prior->books) : NULL;
    if (sums && make_prices(&job, levels, sums) && run(&job))
        result = PyTuple_Pack(2, levels, sums);
    Py_XDECREF(levels);
    Py_XDECREF(sums);
    Py_DECREF(shapes);
    finish_job(&job);
    return result;
}

PyDoc_STRVAR(levels_doc,
    "levels() -> tuple of str\n\n"
    "The instruction sets that this machine has and for which the code was compiled, from the slowest to the fastest.\n"
    "A level that does not compute the same as plain C is left out.");

static PyObject *levels(PyObject *module, PyObject *args) {
    PyObject *list = PyList_New(0), *result;
    (void)module;
    (void)args;
    for (size_t i = 0; list && i < LEVEL_COUNT; i++) {
        PyObject *name = is_usable(i) ? PyUnicode_FromString(LEVELS[i]->name) : NULL;
        if ((is_usable(i) && !name) || (name && PyList_Append(list, name) < 0))
            Py_CLEAR(list);
        Py_XDECREF(name);
    }
    result = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return result;
}

static PyMethodDef METHODS[] = {
    {"load", load, METH_VARARGS, load_doc},
    {"read", read_units, METH_VARARGS, read_doc},
    {"write", write_units, METH_VARARGS, write_doc},
    {"price", price_unit, METH_VARARGS, price_doc},
    {"levels", levels, METH_NOARGS, levels_doc},
    {NULL, NULL, 0, NULL}};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};

PyDoc_STRVAR(module_doc, "The integer prior and the range coder in native code. native.py is the interface to it.");

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_native", module_doc, 0, METHODS, SLOTS, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&MODULE); }
