/* A product of matrices of any strides, by hand: each sum in the order of its terms, as the interpreted graph adds.

   Tiles of 4 rows and some vectors have their sums in registers. A panel of the right matrix, as wide as a tile, is
   copied first unless its rows are contiguous, and is used by all rows of tiles. */
#include <string.h>

#if defined(__AVX512F__)
enum { LANES = 8, VECTORS = 4 };
#elif defined(__AVX__)
enum { LANES = 4, VECTORS = 3 };
#else
enum { LANES = 2, VECTORS = 3 };
#endif
enum { ROWS = 4, WIDE = LANES * VECTORS };
typedef double vector __attribute__((vector_size(8 * LANES)));

static inline vector load(const double *from) {
    vector result;
    memcpy(&result, from, sizeof result);
    return result;
}

/* Copy a panel whose columns are strided, in squares that are turned in registers if its terms are contiguous. */
static void copy(const double *restrict panel, long next, long column, double *restrict scratch, long terms) {
    long k = 0;
#if defined(__GNUC__) && !defined(__clang__)
    typedef long indices __attribute__((vector_size(8 * LANES)));
    for (; next == 1 && k + LANES <= terms; k += LANES)
        for (long n = 0; n < WIDE; n += LANES) {
            vector square[LANES];
            for (int r = 0; r < LANES; r++)
                square[r] = load(panel + (n + r) * column + k);
#pragma GCC unroll 8
            for (int step = 1; step < LANES; step *= 2) {
                indices low, high;
#pragma GCC unroll 8
                for (int i = 0; i < LANES; i++) {
                    low[i] = i & step ? LANES + i - step : i;
                    high[i] = i & step ? LANES + i : i + step;
                }
#pragma GCC unroll 8
                for (int r = 0; r < LANES; r++)
                    if (!(r & step)) {
                        vector first = square[r], second = square[r | step];
                        square[r] = __builtin_shuffle(first, second, low);
                        square[r | step] = __builtin_shuffle(first, second, high);
                    }
            }
            for (int r = 0; r < LANES; r++)
                memcpy(scratch + (k + r) * WIDE + n, &square[r], sizeof(vector));
        }
#endif
    for (; k < terms; k++)
        for (long n = 0; n < WIDE; n++)
            scratch[k * WIDE + n] = panel[n * column + k * next];
}

static void tile(const double *restrict a, long row, long term, const double *restrict b, long next, double *restrict c,
                 long columns, long terms) {
    vector sums[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++)
            sums[r][v] = (vector){} - 0.0;
    for (long k = 0; k < terms; k++)
        for (int r = 0; r < ROWS; r++)
            for (int v = 0; v < VECTORS; v++)
                sums[r][v] += a[r * row + k * term] * load(b + k * next + v * LANES);
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++)
            memcpy(c + r * columns + v * LANES, &sums[r][v], sizeof(vector));
}

/* At least one tile of rows and columns. `scratch` has room for a panel. Strides are those from row to row, from term to
   term, and from column to column. */
void product(const long *sizes, const double *restrict a, const double *restrict b, double *restrict c,
             double *restrict scratch) {
    long rows = sizes[0], columns = sizes[1], terms = sizes[2], row = sizes[3], term = sizes[4];
    long next = sizes[5], column = sizes[6];
    for (long j = 0; j < columns; j += WIDE) {
        long first = j + WIDE > columns ? columns - WIDE : j, step = next;
        const double *panel = b + first * column;
        if (column != 1) {
            copy(panel, next, column, scratch, terms);
            panel = scratch, step = WIDE;
        }
        for (long i = 0; i < rows; i += ROWS) {
            long start = i + ROWS > rows ? rows - ROWS : i;
            tile(a + start * row, row, term, panel, step, c + start * columns + first, columns, terms);
        }
    }
}
