/* The products of the prior, compiled once for each instruction set: `_native.c` includes this file several times.

   Before it is included, these are defined:
       LEVEL(name)                the name of a function at this level
       LEVEL_NAME                 the name of the level, for people
       LEVEL_SUPPORTED            the function that tells whether the CPU has it, or NULL
       TARGET                     the attribute that allows the compiler the instructions of the level
       ROWS(name)                 the names of the functions of `_native_counts.h` that go with it
       KERNEL                     optional: the kernel of products in `_native_kernels.h`,
       TILE_ROWS, TILE_PANELS     and the most rows and panels that it takes

   All arithmetic is exact, so the levels give equal results. Each is compared with plain C before it is used. */

#ifndef KERNEL
/* Products in plain C: one row and one panel at a time. */
TARGET static void LEVEL(multiply)(const Product *product, const int16_t *const *inputs, int rows, int32_t *sums) {
    const int lanes = product->lanes; /* gcc vectorises loops better whose number of turns it does not know */
    for (int row = 0; row < rows; row++)
        for (int panel = 0; panel < product->panels; panel++, sums += LANES) {
            const int16_t *RESTRICT weights =
                product->weights + (size_t)panel * product->segments * product->width * LANES;
            int32_t *RESTRICT sum = sums;
            memset(sum, 0, LANES * sizeof *sum);
            for (int s = 0; s < product->segments; s++)
                for (int k = 0; k < product->width; k += 2, weights += 2 * LANES) {
                    int32_t one = inputs[s * CHUNK + row][k], two = inputs[s * CHUNK + row][k + 1];
                    for (int i = 0; i < lanes; i++)
                        sum[i] += one * weights[2 * i] + two * weights[2 * i + 1];
                }
        }
}
#else
/* Products in vector instructions: KERNEL(rows, panels) is inlined for each number of rows, so that all sums of a tile
   stay in registers. A tile reads each weight once for all of its rows. */
#define TILE(rows) \
    case rows: \
        if (panels == 2) \
            KERNEL(product, inputs + row, weights, out, rows, 2); \
        else \
            KERNEL(product, inputs + row, weights, out, rows, 1); \
        break;

TARGET static void LEVEL(multiply)(const Product *product, const int16_t *const *inputs, int rows, int32_t *sums) {
    size_t panel_size = (size_t)product->segments * product->width * LANES;
    for (int panel = 0, panels; panel < product->panels; panel += panels) {
        const int16_t *weights = product->weights + panel * panel_size;
        panels = TILE_PANELS == 2 && panel + 2 <= product->panels ? 2 : 1;
        for (int row = 0, count; row < rows; row += count) {
            int32_t *out = sums + ((size_t)row * product->panels + panel) * LANES;
            count = rows - row < TILE_ROWS ? rows - row : TILE_ROWS;
            switch (count) {
                TILE(1)
                TILE(2)
                TILE(3)
#if TILE_ROWS > 3
                TILE(4)
                TILE(5)
                TILE(6)
#endif
#if TILE_ROWS > 6
                TILE(7)
                TILE(8)
#endif
            }
        }
    }
}
#undef TILE
#endif

TARGET static void LEVEL(finish)(const Product *product, const int32_t *RESTRICT sums, int low, int high,
                                  int16_t *RESTRICT out) {
    const int32_t *RESTRICT bias = product->bias, *RESTRICT shift = product->shift;
    int lanes = product->panels * LANES;
    for (int i = 0; i < lanes; i++) {
        int32_t y = (sums[i] + bias[i]) >> shift[i];
        y = y < low ? low : y;
        out[i] = (int16_t)(y > high ? high : y);
    }
}

TARGET static void LEVEL(gate)(const Product *product, const int32_t *RESTRICT sums, int16_t *RESTRICT out) {
    const int32_t *RESTRICT bias = product->bias, *RESTRICT shift = product->shift;
    int half = product->panels / 2 * LANES;
    for (int i = 0; i < half; i++) {
        int32_t u = (sums[i] + bias[i]) >> shift[i];
        int32_t v = ((sums[half + i] + bias[half + i]) >> shift[half + i]) + GATE_MAX / 2;
        u = u < -GATE_MAX ? -GATE_MAX : u > GATE_MAX ? GATE_MAX : u;
        v = v < 0 ? 0 : v > GATE_MAX ? GATE_MAX : v;
        out[i] = (int16_t)((u * v + GATE_MAX / 2) >> GATE_EXPONENT);
    }
}

TARGET static void LEVEL(narrow)(const int32_t *RESTRICT from, size_t size, int16_t *RESTRICT out) {
    for (size_t i = 0; i < size; i++) {
        int32_t y = from[i] < -WEIGHT_MAX ? -WEIGHT_MAX : from[i];
        out[i] = (int16_t)(y > WEIGHT_MAX ? WEIGHT_MAX : y);
    }
}

TARGET static void LEVEL(add)(int32_t *RESTRICT sums, const int8_t *RESTRICT row, int width) {
    for (int c = 0; c < width; c++)
        sums[c] += row[c];
}

static const Level LEVEL(level) = {
    LEVEL_NAME,  LEVEL_SUPPORTED, LEVEL(multiply), LEVEL(finish), LEVEL(gate), LEVEL(narrow),
    LEVEL(add),  ROWS(levels),    ROWS(weigh),     ROWS(count),   ROWS(edges)};

#undef LEVEL
#undef LEVEL_NAME
#undef LEVEL_SUPPORTED
#undef TARGET
#undef KERNEL
#undef ROWS
#undef TILE_ROWS
#undef TILE_PANELS
