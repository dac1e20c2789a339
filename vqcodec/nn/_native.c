/* The inner loops of the networks in native code: 3x3 convolutions in tiles (layers.py), residual blocks (trunk.py), 1x1
   convolutions, and the choice of codes (quantizer.py). native.py is the interface to it.

   The files, from the bottom:
       _native_work.h      what the parts pass to each other: matrices, strips of a grid, scratch memory
       _native_vectors.h   vectors of floats for each instruction set
       _native_level.h     the loops, compiled for each instruction set
       _native.c           Python's functions

   Arrays come as addresses: this interface of Python, the stable one of 3.10, has no buffers. native.py computes them
   from arrays whose types, shapes and strides it has checked, and holds the arrays during a call. Here, sizes are checked
   against each other once more. Python's lock is not held while a function computes. */

#define PY_SSIZE_T_CLEAN /* setup.py sets Py_LIMITED_API: only functions of Python 3.10's stable interface are used */
#include <Python.h>

#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC optimize("O3")
#endif

#include "_native_work.h"
#include "_native_vectors.h"

/* ---- Levels, from the slowest. */

#ifdef HAVE_NEON
#define V(name) name##_neon
#define LEVEL_NAME "neon"
#define LEVEL_SUPPORTED NULL
#define TARGET
#define MOST_ROWS 6
#include "_native_level.h"
#endif

#ifdef HAVE_X86
#define V(name) name##_avx2
#define LEVEL_NAME "avx2"
#define LEVEL_SUPPORTED has_avx2
#define TARGET WITH(AVX2)
#define MOST_ROWS 6
#include "_native_level.h"
#endif

#ifdef HAVE_AVX512
#define V(name) name##_avx512
#define LEVEL_NAME "avx512"
#define LEVEL_SUPPORTED has_avx512
#define TARGET WITH(AVX512)
#define MOST_ROWS 12
#include "_native_level.h"
#endif

static const Level *const LEVELS[] = {
#ifdef HAVE_NEON
    &level_neon,
#endif
#ifdef HAVE_X86
    &level_avx2,
#endif
#ifdef HAVE_AVX512
    &level_avx512,
#endif
    NULL};

/* ---- Arguments. */

#define MAX_SIDE (1 << 24)

static void *pointer(unsigned long long address) { return (void *)(uintptr_t)address; }

static int refuse(const char *what) {
    PyErr_SetString(PyExc_ValueError, what);
    return 0;
}

static PyObject *refused(const char *what) {
    refuse(what);
    return NULL;
}

/* Convert the name of a level. */
static int to_level(PyObject *name, void *level) {
    for (size_t i = 0; LEVELS[i]; i++) {
        PyObject *other = PyUnicode_FromString(LEVELS[i]->name);
        int same = other ? PyUnicode_Compare(name, other) == 0 : 0;
        Py_XDECREF(other);
        if (same && (!LEVELS[i]->supported || LEVELS[i]->supported())) {
            *(const Level **)level = LEVELS[i];
            return 1;
        }
        if (PyErr_Occurred())
            return 0;
    }
    return refuse("this machine has no such level");
}

/* Convert (weights, bias, inputs, outputs), or () to a matrix of no size. */
static int to_matrix(PyObject *tuple, void *matrix) {
    unsigned long long weights, bias;
    Matrix *to = matrix;
    *to = (Matrix){0};
    if (!PyTuple_Check(tuple))
        return refuse("a matrix is a tuple");
    if (PyTuple_Size(tuple) == 0)
        return 1;
    if (!PyArg_ParseTuple(tuple, "KKii", &weights, &bias, &to->inputs, &to->outputs))
        return 0;
    to->weights = pointer(weights);
    to->bias = pointer(bias);
    int fits = weights && bias && to->inputs >= 1 && to->inputs <= MAX_CHANNELS && to->outputs >= 1 &&
               to->outputs <= MAX_CHANNELS;
    return fits || refuse("the size of a matrix is out of range");
}

/* Convert (address, row, column, segment, segments, length), strides in floats. */
static int to_side(PyObject *tuple, Side *side) {
    unsigned long long start;
    Py_ssize_t row, column, segment;
    if (!tuple || !PyTuple_Check(tuple))
        return refuse("an input or output is a tuple");
    if (!PyArg_ParseTuple(tuple, "Knnnii", &start, &row, &column, &segment, &side->segments, &side->length))
        return 0;
    side->start = pointer(start);
    side->row = row;
    side->column = column;
    side->segment = segment;
    int fits = start && side->segments >= 1 && side->length >= 1 && side->segments <= MAX_CHANNELS &&
               side->length <= MAX_CHANNELS / side->segments;
    return fits || refuse("an input or output has a size out of range");
}

/* Convert a tuple of one or two sides, and add up their floats. Returns their number, or 0. */
static int to_sides(PyObject *tuple, Side *sides, int *floats) {
    Py_ssize_t count = PyTuple_Size(tuple);
    *floats = 0;
    if (count < 1 || count > 2)
        return refuse("there must be one or two inputs and outputs");
    for (Py_ssize_t i = 0; i < count; i++) {
        if (!to_side(PyTuple_GetItem(tuple, i), &sides[i]))
            return 0;
        *floats += sides[i].segments * sides[i].length;
    }
    return (int)count;
}

/* ---- Python's functions. */

PyDoc_STRVAR(levels_doc,
    "levels() -> tuple of (name, lanes, panel)\n\n"
    "The instruction sets that this machine has and for which the code was compiled, from the slowest to the fastest,\n"
    "and the numbers of floats in a vector and in a panel of packed weights.");

static PyObject *levels(PyObject *module, PyObject *args) {
    PyObject *list = PyList_New(0), *result;
    (void)module;
    (void)args;
    for (size_t i = 0; list && LEVELS[i]; i++) {
        if (LEVELS[i]->supported && !LEVELS[i]->supported())
            continue;
        PyObject *item = Py_BuildValue("sii", LEVELS[i]->name, LEVELS[i]->lanes, LEVELS[i]->panel);
        if (!item || PyList_Append(list, item) < 0)
            Py_CLEAR(list);
        Py_XDECREF(item);
    }
    result = list ? PyList_AsTuple(list) : NULL;
    Py_XDECREF(list);
    return result;
}

PyDoc_STRVAR(pack_doc,
    "pack(level, kernels, (taps, inputs, outputs), packed, size)\n\n"
    "Addresses of kernels [taps, inputs, outputs], 9 taps or 1, and of the packed weights, `size` floats:\n"
    "[36 or 1, panels, inputs, panel].");

static PyObject *pack(PyObject *module, PyObject *args) {
    const Level *level;
    unsigned long long kernels, packed;
    int taps, inputs, outputs;
    Py_ssize_t size;
    (void)module;
    if (!PyArg_ParseTuple(args, "O&K(iii)Kn", to_level, &level, &kernels, &taps, &inputs, &outputs, &packed, &size))
        return NULL;
    int fits = kernels && packed && (taps == 9 || taps == 1) && inputs >= 1 && inputs <= MAX_CHANNELS && outputs >= 1 &&
               outputs <= MAX_CHANNELS;
    if (fits) {
        size_t count = taps == 9 ? FREQUENCIES : 1;
        fits = (size_t)size == round_up((size_t)outputs, (size_t)level->panel) * (size_t)inputs * count;
    }
    if (!fits)
        return refused("the sizes of the kernels are out of range or contradict each other");
    Py_BEGIN_ALLOW_THREADS
    level->pack(pointer(kernels), taps, inputs, outputs, pointer(packed));
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyDoc_STRVAR(scratch_doc,
    "scratch(level, conv, out) -> int\n\n"
    "The number of floats that `strip` needs for these matrices. With an empty `conv`: that `pointwise` needs for `out`.");

static PyObject *scratch(PyObject *module, PyObject *args) {
    const Level *level;
    Matrix conv, out;
    (void)module;
    if (!PyArg_ParseTuple(args, "O&O&O&", to_level, &level, to_matrix, &conv, to_matrix, &out))
        return NULL;
    return PyLong_FromSize_t(strip_scratch(level, &conv, &out));
}

/* Whether the matrices of a strip are those of its action, and it lies in its grid. */
static int is_strip(const Strip *strip) {
    const Matrix *conv = &strip->conv, *out = &strip->out;
    int fits = strip->x && strip->y && strip->scratch && strip->rows >= 1 && strip->rows <= MAX_SIDE &&
               strip->columns >= 1 && strip->columns <= MAX_SIDE && 0 <= strip->top && strip->top < strip->bottom &&
               strip->bottom <= strip->rows && 0 <= strip->left && strip->left < strip->right &&
               strip->right <= strip->columns &&
               (strip->bottom - strip->top) <= MAX_SIDE / (strip->right - strip->left);
    switch (strip->action) {
    case CONVOLVE:
        return fits && conv->weights;
    case FORWARD:
        return fits && conv->weights && out->weights && conv->inputs == out->outputs && conv->outputs == out->inputs &&
               !strip->inner == !strip->outer;
    case BACK_INSIDE:
        return fits && out->weights && strip->inner;
    case BACK_OUTSIDE:
        return fits && conv->weights && strip->outer;
    }
    return 0;
}

PyDoc_STRVAR(strip_doc,
    "strip(level, action, rectify, conv, out, (x, y, rows, columns), (top, bottom, left, right), (inner, outer),\n"
    "      (scratch, size))\n\n"
    "A strip of tiles of a layer. x and y are addresses of arrays [4 * rows + 2, 4 * columns + 2, channels].\n"
    "action 0: y = 3x3(x), with `rectify` of max(x, 0); 1: y = x + 1x1(relu(3x3(relu(x)))), and the signs if their\n"
    "addresses are not 0; 2: y = 1x1(x) where `inner` is positive, else 0; 3: y += 3x3(x) where `outer` is positive.\n"
    "Signs: uint16 [tiles of the strip, 16, vectors]. Matrices: (weights, bias, inputs, outputs), or () if not needed.");

static PyObject *strip(PyObject *module, PyObject *args) {
    const Level *level;
    Strip work;
    unsigned long long x, y, inner, outer, memory;
    Py_ssize_t size;
    (void)module;
    if (!PyArg_ParseTuple(args, "O&iiO&O&(KKii)(iiii)(KK)(Kn)", to_level, &level, &work.action, &work.rectify, to_matrix,
                          &work.conv, to_matrix, &work.out, &x, &y, &work.rows, &work.columns, &work.top, &work.bottom,
                          &work.left, &work.right, &inner, &outer, &memory, &size))
        return NULL;
    work.x = pointer(x);
    work.y = pointer(y);
    work.inner = pointer(inner);
    work.outer = pointer(outer);
    work.scratch = pointer(memory);
    work.rectify = work.rectify || work.action == FORWARD;
    if (!is_strip(&work) || size < (Py_ssize_t)strip_scratch(level, &work.conv, &work.out))
        return refused("the sizes of the strip are out of range or contradict each other");
    work.scratch = aligned(work.scratch);
    Py_BEGIN_ALLOW_THREADS
    level->strip(&work);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyDoc_STRVAR(pointwise_doc,
    "pointwise(level, rectify, matrix, (rows, columns), inputs, outputs, (scratch, size))\n\n"
    "A 1x1 convolution of one or two inputs side by side, with `rectify` of max(x, 0) of the last, to one or two outputs.\n"
    "Each is (address, row, column, segment, segments, length): at each position so many segments of so many floats.\n"
    "Strides are in floats.");

static PyObject *pointwise(PyObject *module, PyObject *args) {
    const Level *level;
    Pointwise work;
    PyObject *inputs, *outputs;
    unsigned long long memory;
    Py_ssize_t size;
    int ins, outs;
    (void)module;
    if (!PyArg_ParseTuple(args, "O&iO&(ii)O!O!(Kn)", to_level, &level, &work.rectify, to_matrix, &work.matrix, &work.rows,
                          &work.columns, &PyTuple_Type, &inputs, &PyTuple_Type, &outputs, &memory, &size))
        return NULL;
    work.ins = to_sides(inputs, work.inputs, &ins);
    work.outs = work.ins ? to_sides(outputs, work.outputs, &outs) : 0;
    if (!work.outs)
        return NULL;
    work.scratch = pointer(memory);
    Matrix none = {0};
    if (!work.matrix.weights || ins != work.matrix.inputs || outs != work.matrix.outputs || !work.scratch ||
        work.rows < 1 || work.columns < 1 || work.rows > MAX_SIDE || work.columns > MAX_SIDE ||
        size < (Py_ssize_t)strip_scratch(level, &none, &work.matrix))
        return refused("the sizes of the product are out of range or contradict each other");
    work.scratch = aligned(work.scratch);
    Py_BEGIN_ALLOW_THREADS
    level->pointwise(&work);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

PyDoc_STRVAR(choose_doc,
    "choose(level, (latents, count, stride, dims), (table, size), (costs, stride, bytes, scale), chosen)\n\n"
    "For each latent z the first code k with the lowest sum of z[d] * table[d, k] over d, plus table[dims, k], plus scale\n"
    "* costs[k]. The table has `size` columns, rounded up to 4 vectors; costs are uint8 if `bytes`, else floats; an\n"
    "address of 0: none. chosen: int32 [count]. Strides are in items.");

static PyObject *choose(PyObject *module, PyObject *args) {
    const Level *level;
    Choice work;
    unsigned long long latents, table, costs, scale, chosen;
    Py_ssize_t count, stride, cost_stride;
    (void)module;
    if (!PyArg_ParseTuple(args, "O&(Knni)(Ki)(KniK)K", to_level, &level, &latents, &count, &stride, &work.dims, &table,
                          &work.size, &costs, &cost_stride, &work.bytes, &scale, &chosen))
        return NULL;
    work.latents = pointer(latents);
    work.table = pointer(table);
    work.costs = pointer(costs);
    work.scale = pointer(scale);
    work.chosen = pointer(chosen);
    work.count = count;
    work.stride = stride;
    work.cost_stride = cost_stride;
    if (!latents || !table || !chosen || !costs != !scale || count < 0 || work.dims < 1 || work.dims > stride ||
        work.size < 1 || work.size > MAX_SIDE || (costs && cost_stride < work.size))
        return refused("the sizes of the choice are out of range or contradict each other");
    Py_BEGIN_ALLOW_THREADS
    level->choose(&work);
    Py_END_ALLOW_THREADS
    Py_RETURN_NONE;
}

static PyMethodDef METHODS[] = {
    {"levels", levels, METH_NOARGS, levels_doc},
    {"pack", pack, METH_VARARGS, pack_doc},
    {"scratch", scratch, METH_VARARGS, scratch_doc},
    {"strip", strip, METH_VARARGS, strip_doc},
    {"pointwise", pointwise, METH_VARARGS, pointwise_doc},
    {"choose", choose, METH_VARARGS, choose_doc},
    {NULL, NULL, 0, NULL}};

static PyModuleDef_Slot SLOTS[] = {{0, NULL}};

PyDoc_STRVAR(module_doc, "The inner loops of the networks in native code. native.py is the interface to it.");

static struct PyModuleDef MODULE = {
    PyModuleDef_HEAD_INIT, "_native", module_doc, 0, METHODS, SLOTS, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&MODULE); }
