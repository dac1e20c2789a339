/* The networks' inner loops, compiled once for each instruction set: `_native.c` includes this file several times.

   Before it is included, these are defined:
       V(name)          the name of a function or type at this level; those of `_native_vectors.h` exist
       LEVEL_NAME       the name of the level, for people
       LEVEL_SUPPORTED  the function that tells whether the CPU has it, or NULL
       TARGET           the attribute that allows the compiler the instructions of the level

   layers.py says how a 3x3 convolution is computed in tiles. Here, a vector holds neighbouring channels. */

#define FUNCTION TARGET INLINE
#define LANES ((int)V(lanes))
#define PANEL ((int)V(lanes) * (int)V(panel))
#define VECTOR V(vector)

/* The first n floats at p; zeros behind them. */
FUNCTION VECTOR V(get)(const float *p, int n) {
    if (n >= LANES)
        return V(load)(p);
    float part[LANES];
    for (int i = 0; i < LANES; i++)
        part[i] = i < n ? p[i] : 0;
    return V(load)(part);
}

FUNCTION void V(put)(float *p, VECTOR v, int n) {
    if (n >= LANES) {
        V(store)(p, v);
        return;
    }
    float part[LANES];
    V(store)(part, v);
    for (int i = 0; i < n; i++)
        p[i] = part[i];
}

/* ---- Products. */

/* A tile: out[r][.] = the sum over k of a[r][k] * weights[k][.], for `rows` rows, which is a constant. */
FUNCTION void V(tile)(const float *RESTRICT a, size_t stride, const float *RESTRICT weights, int depth,
                      float *RESTRICT out, size_t out_stride, const int rows) {
    VECTOR sum[V(row)][V(panel)];
    UNROLL for (int r = 0; r < rows; r++) UNROLL for (int v = 0; v < V(panel); v++) sum[r][v] = V(all)(0);
    for (int k = 0; k < depth; k++, weights += PANEL) {
        VECTOR w[V(panel)];
        PREFETCH(weights + AHEAD * LINE);
        UNROLL for (int v = 0; v < V(panel); v++) w[v] = V(load)(weights + v * LANES);
        UNROLL for (int r = 0; r < rows; r++) {
            VECTOR x = V(all)(a[(size_t)r * stride + (size_t)k]);
            UNROLL for (int v = 0; v < V(panel); v++) sum[r][v] = V(fma)(x, w[v], sum[r][v]);
        }
    }
    UNROLL for (int r = 0; r < rows; r++)
        UNROLL for (int v = 0; v < V(panel); v++) V(store)(out + (size_t)r * out_stride + v * LANES, sum[r][v]);
}

/* The same for any number of rows. */
TARGET static void V(multiply)(const float *a, size_t stride, int rows, const float *weights, int depth, float *out,
                               size_t out_stride) {
#define ROWS_OF_A_TILE(n) \
    case n: \
        V(tile)(a, stride, weights, depth, out, out_stride, n); \
        break;
    for (int count; rows > 0; rows -= count, a += (size_t)count * stride, out += (size_t)count * out_stride) {
        count = rows < V(row) ? rows : V(row);
        switch (count) {
            ROWS_OF_A_TILE(1)
            ROWS_OF_A_TILE(2)
            ROWS_OF_A_TILE(3)
            ROWS_OF_A_TILE(4)
            ROWS_OF_A_TILE(5)
            ROWS_OF_A_TILE(6)
#if MOST_ROWS > 6
            ROWS_OF_A_TILE(7)
            ROWS_OF_A_TILE(8)
            ROWS_OF_A_TILE(9)
            ROWS_OF_A_TILE(10)
            ROWS_OF_A_TILE(11)
            ROWS_OF_A_TILE(12)
#endif
        }
    }
#undef ROWS_OF_A_TILE
}

/* All outputs of a 1x1 product, without the bias: out [rows][padded outputs]. */
TARGET static void V(multiply_all)(const float *a, size_t stride, int rows, const Matrix *matrix, float *out) {
    size_t width = round_up((size_t)matrix->outputs, (size_t)PANEL);
    for (size_t first = 0; first < width; first += (size_t)PANEL)
        V(multiply)(a, stride, rows, matrix->weights + first * (size_t)matrix->inputs, matrix->inputs, out + first, width);
}

/* ---- Lavin & Gray 2016, section 4.1: the transforms along one direction. */

FUNCTION void V(input_transform)(const VECTOR *x, int step, VECTOR *y, int out_step) {
    VECTOR four = V(all)(4), five = V(all)(5), two = V(all)(2);
    VECTOR x0 = x[0], x1 = x[step], x2 = x[2 * step], x3 = x[3 * step], x4 = x[4 * step], x5 = x[5 * step];
    VECTOR even = V(sub)(x4, V(mul)(four, x2)), odd = V(sub)(x3, V(mul)(four, x1));
    VECTOR even2 = V(sub)(x4, x2), odd2 = V(mul)(two, V(sub)(x3, x1));
    y[0] = V(sub)(V(fma)(four, x0, x4), V(mul)(five, x2));
    y[out_step] = V(add)(even, odd);
    y[2 * out_step] = V(sub)(even, odd);
    y[3 * out_step] = V(add)(even2, odd2);
    y[4 * out_step] = V(sub)(even2, odd2);
    y[5 * out_step] = V(sub)(V(fma)(four, x1, x5), V(mul)(five, x3));
}

FUNCTION void V(output_transform)(const VECTOR *x, int step, VECTOR *y, int out_step) {
    VECTOR sum = V(add)(x[step], x[2 * step]), difference = V(sub)(x[step], x[2 * step]);
    VECTOR sum2 = V(add)(x[3 * step], x[4 * step]), difference2 = V(sub)(x[3 * step], x[4 * step]);
    y[0] = V(add)(V(add)(x[0], sum), sum2);
    y[out_step] = V(fma)(V(all)(2), difference2, difference);
    y[2 * out_step] = V(fma)(V(all)(4), sum2, sum);
    y[3 * out_step] = V(add)(V(fma)(V(all)(8), difference2, difference), x[5 * step]);
}

FUNCTION void V(kernel_transform)(const VECTOR *x, int step, VECTOR *y, int out_step) {
    VECTOR ends = V(mul)(V(add)(x[0], x[2 * step]), V(all)(-1.0f / 6)), middle = V(mul)(x[step], V(all)(1.0f / 6));
    VECTOR outer = V(fma)(x[0], V(all)(1.0f / 24), V(mul)(x[2 * step], V(all)(1.0f / 6)));
    VECTOR half = V(mul)(x[step], V(all)(1.0f / 12));
    y[0] = V(mul)(x[0], V(all)(0.25f));
    y[out_step] = V(sub)(ends, middle);
    y[2 * out_step] = V(add)(ends, middle);
    y[3 * out_step] = V(add)(outer, half);
    y[4 * out_step] = V(sub)(outer, half);
    y[5 * out_step] = x[2 * step];
}

/* The weights of one vector of outputs for one input, for all frequencies, from its taps. */
FUNCTION void V(pack_vector)(const float *kernels, size_t tap, int left, int taps, float *packed, size_t next) {
    VECTOR x[9], half[TAPS * 3], y[FREQUENCIES];
    UNROLL for (int i = 0; i < taps; i++) x[i] = left > 0 ? V(get)(kernels + (size_t)i * tap, left) : V(all)(0);
    if (taps == 1) {
        V(store)(packed, x[0]);
        return;
    }
    UNROLL for (int j = 0; j < 3; j++) V(kernel_transform)(x + j, 3, half + j, 3);
    UNROLL for (int i = 0; i < TAPS; i++) V(kernel_transform)(half + 3 * i, 1, y + TAPS * i, 1);
    UNROLL for (int i = 0; i < FREQUENCIES; i++) V(store)(packed + (size_t)i * next, y[i]);
}

/* Kernels [taps][inputs][outputs] -> panels. 9 taps become 36 frequencies; 1 stays as it is. A few inputs at a time go
   through the L1 cache, where lines of the panels of all frequencies would be in each other's way. */
TARGET static void V(pack)(const float *kernels, int taps, int inputs, int outputs, float *packed) {
    enum { SOME = 4 };
    float part[FREQUENCIES * SOME * PANEL];
    int count = taps == 9 ? FREQUENCIES : 1;
    size_t tap = (size_t)inputs * (size_t)outputs, next = (size_t)inputs * round_up((size_t)outputs, (size_t)PANEL);
    for (int first = 0; first < outputs; first += PANEL)
        for (int k = 0, some; k < inputs; k += some, packed += some * PANEL) {
            some = inputs - k < SOME ? inputs - k : SOME;
            for (int i = 0; i < some; i++)
                for (int lane = 0; lane < PANEL; lane += LANES) {
                    const float *from = kernels + (size_t)(k + i) * (size_t)outputs + first + lane;
                    float *to = part + i * PANEL + lane;
                    if (taps == 9)
                        V(pack_vector)(from, tap, outputs - first - lane, 9, to, SOME * PANEL);
                    else
                        V(pack_vector)(from, tap, outputs - first - lane, 1, to, 0);
                }
            for (int f = 0; f < count; f++)
                memcpy(packed + (size_t)f * next, part + f * SOME * PANEL, (size_t)(some * PANEL) * sizeof *part);
        }
}

/* ---- 3x3 convolutions. */

/* The 36 values of the inputs at x of a tile, `left` channels from there. */
FUNCTION void V(input_tile)(const Strip *strip, const float *x, int left, float *values, size_t frequency) {
    ptrdiff_t channels = strip->conv.inputs, row = (TILE * (ptrdiff_t)strip->columns + 2) * channels;
    VECTOR half[FREQUENCIES], y[TAPS], least = V(all)(strip->rectify ? 0 : -FLT_MAX);
    UNROLL for (int j = 0; j < TAPS; j++) {
        VECTOR column[TAPS];
        UNROLL for (int i = 0; i < TAPS; i++) {
            column[i] = V(max)(V(get)(x + i * row + j * channels, left), least);
        }
        V(input_transform)(column, 1, half + j, TAPS);
    }
    UNROLL for (int i = 0; i < TAPS; i++) {
        V(input_transform)(half + TAPS * i, 1, y, 1);
        UNROLL for (int j = 0; j < TAPS; j++) V(store)(values + (size_t)(TAPS * i + j) * frequency, y[j]);
    }
}

TARGET static void V(input_tiles)(const Strip *strip, int first, int count, float *values, size_t width,
                                  size_t frequency) {
    int inputs = strip->conv.inputs;
    for (int t = 0; t < count; t++, values += width) {
        /* The first input of a tile is one row above and one column left of its first position. */
        ptrdiff_t place = place_of(strip, (first + t) * PLACES) - (TILE * (ptrdiff_t)strip->columns + 3);
        const float *x = strip->x + place * inputs;
        int c = 0;
        for (; c + LANES <= inputs; c += LANES)
            V(input_tile)(strip, x + c, LANES, values + c, frequency);
        if (c < inputs)
            V(input_tile)(strip, x + c, inputs - c, values + c, frequency);
    }
}

/* What becomes of the 16 outputs of a tile, channels from c. `t`: the tile in the strip; `inside`: its rows [16][width]. */
FUNCTION void V(put_tile)(const Strip *strip, const VECTOR *y, int t, int c, float *inside, size_t width) {
    int outputs = strip->conv.outputs, left = outputs - c;
    size_t vectors = ((size_t)outputs + (size_t)LANES - 1) / (size_t)LANES;
    size_t sign = (size_t)t * PLACES * vectors + (size_t)(c / LANES);
    ptrdiff_t row = (TILE * (ptrdiff_t)strip->columns + 2) * outputs;
    float *at = strip->y + place_of(strip, t * PLACES) * outputs + c;
    VECTOR zero = V(all)(0);
    if (strip->action == FORWARD) {
        if (strip->inner)
            UNROLL for (int i = 0; i < PLACES; i++)
                strip->inner[sign + (size_t)i * vectors] = (uint16_t)V(signs)(y[i]);
        UNROLL for (int i = 0; i < PLACES; i++) V(store)(inside + (size_t)i * width + c, V(max)(y[i], zero));
    } else if (strip->action == BACK_OUTSIDE)
        for (int i = 0; i < PLACES; i++) {
            float *to = at + i / TILE * row + (ptrdiff_t)(i % TILE) * outputs;
            VECTOR kept = V(keep)(y[i], strip->outer[sign + (size_t)i * vectors]);
            V(put)(to, V(add)(V(get)(to, left), kept), left);
        }
    else
        for (int i = 0; i < PLACES; i++)
            V(put)(at + i / TILE * row + (ptrdiff_t)(i % TILE) * outputs, y[i], left);
}

/* The 16 outputs of a tile from its 36 products, one vector of channels. `stride`: between frequencies. */
FUNCTION void V(output_tile)(const float *products, size_t stride, VECTOR bias, VECTOR *y) {
    VECTOR half[TILE * TAPS];
    UNROLL for (int j = 0; j < TAPS; j++) {
        VECTOR column[TAPS];
        UNROLL for (int i = 0; i < TAPS; i++) column[i] = V(load)(products + (size_t)(TAPS * i + j) * stride);
        V(output_transform)(column, 1, half + j, TAPS);
    }
    UNROLL for (int i = 0; i < TILE; i++) {
        V(output_transform)(half + TAPS * i, 1, y + TILE * i, 1);
        UNROLL for (int j = 0; j < TILE; j++) y[TILE * i + j] = V(add)(y[TILE * i + j], bias);
    }
}

/* Tiles of a strip: the convolution. For `FORWARD` the results are `inside`, [count * 16][width], after the ReLU. */
TARGET static void V(convolve)(const Strip *strip, int first, int count, float *scratch, float *inside) {
    Matrix conv = strip->conv;
    size_t width = round_up((size_t)conv.inputs, (size_t)PANEL), hidden = round_up((size_t)conv.outputs, (size_t)PANEL);
    size_t before = frequency_stride((size_t)count, width), after = frequency_stride((size_t)count, hidden);
    float *values = scratch, *products = values + FREQUENCIES * before;
    V(input_tiles)(strip, first, count, values, width, before);
    for (int f = 0; f < FREQUENCIES; f++, conv.weights += (size_t)conv.inputs * hidden)
        V(multiply_all)(values + (size_t)f * before, width, count, &conv, products + (size_t)f * after);
    for (int t = 0; t < count; t++, products += hidden, inside += PLACES * hidden)
        for (int c = 0; c < conv.outputs; c += LANES) {
            VECTOR y[PLACES];
            V(output_tile)(products + c, after, V(load)(conv.bias + c), y);
            V(put_tile)(strip, y, first + t, c, inside, hidden);
        }
}

/* ---- 1x1 products at the positions of a strip. */

/* y = x + 1x1(inside) at `count` positions from `first`, with the signs of x. `rows`: for the products. */
TARGET static void V(leave_block)(const Strip *strip, int first, int count, const float *inside, float *rows) {
    const Matrix *out = &strip->out;
    int channels = out->outputs;
    size_t width = round_up((size_t)channels, (size_t)PANEL);
    size_t vectors = ((size_t)channels + (size_t)LANES - 1) / (size_t)LANES;
    V(multiply_all)(inside, round_up((size_t)out->inputs, (size_t)PANEL), count, out, rows);
    for (int n = 0; n < count; n++, rows += width) {
        ptrdiff_t at = place_of(strip, first + n) * channels;
        for (int c = 0; c < channels; c += LANES) {
            VECTOR x = V(get)(strip->x + at + c, channels - c);
            VECTOR change = V(add)(V(load)(rows + c), V(load)(out->bias + c));
            if (strip->outer)
                strip->outer[(size_t)(first + n) * vectors + (size_t)(c / LANES)] = (uint16_t)V(signs)(x);
            V(put)(strip->y + at + c, V(add)(x, change), channels - c);
        }
    }
}

/* y = 1x1(x) at `count` positions from `first`, where the signs inside the block are positive; else 0. */
TARGET static void V(enter_block)(const Strip *strip, int first, int count, float *inputs, float *rows) {
    const Matrix *out = &strip->out;
    int ins = out->inputs, outs = out->outputs;
    size_t stride = round_up((size_t)ins, (size_t)PANEL), width = round_up((size_t)outs, (size_t)PANEL);
    size_t vectors = ((size_t)outs + (size_t)LANES - 1) / (size_t)LANES;
    for (int n = 0; n < count; n++)
        memcpy(inputs + (size_t)n * stride, strip->x + place_of(strip, first + n) * ins, (size_t)ins * sizeof(float));
    V(multiply_all)(inputs, stride, count, out, rows);
    for (int n = 0; n < count; n++, rows += width) {
        float *to = strip->y + place_of(strip, first + n) * outs;
        const uint16_t *signs = strip->inner + (size_t)(first + n) * vectors;
        for (int c = 0; c < outs; c += LANES)
            V(put)(to + c, V(keep)(V(load)(rows + c), signs[c / LANES]), outs - c);
    }
}

/* A strip of a layer: `action` says of which. */
TARGET static void V(strip)(const Strip *strip) {
    int tiles = (strip->bottom - strip->top) * (strip->right - strip->left);
    size_t ins = round_up((size_t)strip->out.inputs, (size_t)PANEL);
    float *inputs = strip->scratch, *rows = inputs + ROWS * ins;
    float *inside = rows + ROWS * round_up((size_t)strip->out.outputs, (size_t)PANEL);
    float *rest = inside + STEP * PLACES * round_up((size_t)strip->conv.outputs, (size_t)PANEL);
    for (int first = 0; first < tiles; first += STEP) {
        int count = tiles - first < STEP ? tiles - first : STEP, places = count * PLACES;
        if (strip->action != BACK_INSIDE)
            V(convolve)(strip, first, count, rest, inside);
        for (int n = 0, some; n < places; n += some) {
            some = places - n < ROWS ? places - n : ROWS;
            if (strip->action == FORWARD)
                V(leave_block)(strip, first * PLACES + n, some, inside + (size_t)n * ins, rows);
            else if (strip->action == BACK_INSIDE)
                V(enter_block)(strip, first * PLACES + n, some, inputs, rows);
        }
    }
}

/* ---- 1x1 convolutions of several inputs side by side, to several outputs side by side. */

TARGET static void V(gather)(const Pointwise *work, ptrdiff_t first, int count, float *rows, size_t width) {
    for (int n = 0; n < count; n++, rows += width) {
        float *to = rows;
        for (int s = 0; s < work->ins; s++) {
            const Side *side = &work->inputs[s];
            const float *from = side->start + (first + n) / work->columns * side->row +
                                (first + n) % work->columns * side->column;
            for (int i = 0; i < side->segments; i++, from += side->segment, to += side->length)
                if (work->rectify && s == work->ins - 1)
                    for (int k = 0; k < side->length; k++)
                        to[k] = from[k] > 0 ? from[k] : 0;
                else
                    memcpy(to, from, (size_t)side->length * sizeof *to);
        }
    }
}

TARGET static void V(scatter)(const Pointwise *work, ptrdiff_t first, int count, const float *rows, size_t width) {
    for (int n = 0; n < count; n++, rows += width) {
        const float *from = rows;
        for (int s = 0; s < work->outs; s++) {
            const Side *side = &work->outputs[s];
            float *to = side->start + (first + n) / work->columns * side->row +
                        (first + n) % work->columns * side->column;
            for (int i = 0; i < side->segments; i++, to += side->segment, from += side->length)
                memcpy(to, from, (size_t)side->length * sizeof *to);
        }
    }
}

TARGET static void V(pointwise)(const Pointwise *work) {
    const Matrix *matrix = &work->matrix;
    size_t ins = round_up((size_t)matrix->inputs, (size_t)PANEL), outs = round_up((size_t)matrix->outputs, (size_t)PANEL);
    float *inputs = work->scratch, *outputs = inputs + ROWS * ins;
    ptrdiff_t positions = (ptrdiff_t)work->rows * work->columns;
    for (ptrdiff_t first = 0; first < positions; first += ROWS) {
        int count = positions - first < ROWS ? (int)(positions - first) : ROWS;
        V(gather)(work, first, count, inputs, ins);
        V(multiply_all)(inputs, ins, count, matrix, outputs);
        for (int n = 0; n < count; n++)
            for (size_t c = 0; c < outs; c += (size_t)LANES) {
                float *y = outputs + (size_t)n * outs + c;
                V(store)(y, V(add)(V(load)(y), V(load)(matrix->bias + c)));
            }
        V(scatter)(work, first, count, outputs, outs);
    }
}

/* ---- The choice of codes. */

/* scale * costs of the codes from k on; 0 behind the last. */
FUNCTION VECTOR V(costs_at)(const Choice *choice, ptrdiff_t n, int k) {
    int left = choice->size - k;
    if (choice->bytes) {
        const uint8_t *from = (const uint8_t *)choice->costs + n * choice->cost_stride + k;
        if (left >= LANES)
            return V(from_bytes)(from);
        uint8_t part[LANES];
        for (int i = 0; i < LANES; i++)
            part[i] = i < left ? from[i] : 0;
        return V(from_bytes)(part);
    }
    return V(get)((const float *)choice->costs + n * choice->cost_stride + k, left);
}

/* The first of the codes with the lowest cost, where each lane has its lowest and the place of its vector. */
TARGET static int32_t V(first_lowest)(VECTOR best, VECTOR place) {
    float costs[LANES], places[LANES];
    V(store)(costs, best);
    V(store)(places, place);
    int found = 0;
    for (int i = 1; i < LANES; i++)
        if (costs[i] < costs[found] || (costs[i] == costs[found] && places[i] < places[found]))
            found = i;
    return (int32_t)places[found] + found;
}

TARGET static void V(choose)(const Choice *choice) {
    enum { ABREAST = 4 }; /* vectors of codes for each reading of the latents; the table is padded for it */
    size_t size = round_up((size_t)choice->size, (size_t)(ABREAST * LANES));
    int dims = choice->dims;
    for (ptrdiff_t n = 0; n < choice->count; n++) {
        const float *z = choice->latents + n * choice->stride, *last = choice->table + (size_t)dims * size;
        VECTOR scale = V(all)(choice->scale ? choice->scale[n] : 0), best = V(load)(last), place = V(all)(0);
        for (int k = 0; k < (int)size; k += ABREAST * LANES) {
            VECTOR total[ABREAST];
            UNROLL for (int v = 0; v < ABREAST; v++) total[v] = V(load)(last + k + v * LANES);
            for (int d = 0; d < dims; d++) {
                const float *row = choice->table + (size_t)d * size + k;
                VECTOR x = V(all)(z[d]);
                UNROLL for (int v = 0; v < ABREAST; v++) total[v] = V(fma)(x, V(load)(row + v * LANES), total[v]);
            }
            for (int v = 0; v < ABREAST; v++) {
                if (choice->costs && k + v * LANES < choice->size)
                    total[v] = V(fma)(scale, V(costs_at)(choice, n, k + v * LANES), total[v]);
                if (k + v == 0)
                    best = total[v];
                else
                    place = V(less)(total[v], best, V(all)((float)(k + v * LANES)), place);
                best = V(min)(total[v], best);
            }
        }
        choice->chosen[n] = V(first_lowest)(best, place);
    }
}

static const Level V(level) = {LEVEL_NAME,  LEVEL_SUPPORTED, (int)V(lanes), PANEL,
                               V(pack),     V(strip),        V(pointwise),  V(choose)};

#undef FUNCTION
#undef LANES
#undef PANEL
#undef VECTOR
#undef V
#undef LEVEL_NAME
#undef LEVEL_SUPPORTED
#undef TARGET
#undef MOST_ROWS
