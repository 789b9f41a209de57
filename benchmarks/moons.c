// The moons value and gradient as a C programmer writes it by hand for speed: the bar for generated machine code.
//
// It is exact: the same additions in the same order as the interpreted graph. The graph adds up a neuron from its bias
// on, and the gradient of a parameter from the two equal terms of its square on, then point by point from the last to
// the first. So a sum cannot be split, and what runs side by side are the 16 neurons of a layer, in vectors of the
// processor's own width. Compile without contraction: a * b + c is rounded twice.
//
// Masked gradients are +0.0 where the graph has a zero with the sign of what is masked. No sum can tell: they all end
// with + 0.0, as the graph's do.

#include <string.h>

enum { WIDTH = 16, FIRST = 0, SECOND = 48, LAST = 320, PARAMETERS = 337 };

#if defined __AVX512F__
enum { LANES = 8 };
#elif defined __AVX__
enum { LANES = 4 };
#else
enum { LANES = 2 };
#endif

// A tile of sums stays in registers: rows of COLUMNS vectors, for 5 points or 4 neurons at a time. Larger tiles are no
// faster with AVX-512, and do not fit into the 16 registers that there are without it.
enum { COLUMNS = 2, POINT_ROWS = 5, NEURON_ROWS = 4, SCORE_ROWS = 4 };
enum { GROUP = POINT_ROWS * SCORE_ROWS, PADDED = (POINTS + GROUP - 1) / GROUP * GROUP };

typedef double Vector __attribute__((vector_size(8 * LANES)));
typedef long long Mask __attribute__((vector_size(8 * LANES)));
typedef double Row[WIDTH] __attribute__((aligned(64)));  // a number per neuron

#define UNROLLED _Pragma("GCC unroll 16") for
#define ROLLED _Pragma("GCC unroll 1") for
#define VECTORS(column) int column = 0; column < WIDTH; column += LANES

static inline Vector load(const double *numbers)
{
    Vector vector;
    memcpy(&vector, numbers, sizeof vector);
    return vector;
}

static inline void store(double *numbers, Vector vector)
{
    memcpy(numbers, &vector, sizeof vector);
}

// Some rows of a matrix with 16 columns, and the step from one row to the next.
typedef struct { double *numbers; int step; } Sums;
typedef struct { const double *numbers; int step; } Terms;
// A number for each row of the sums and each term.
typedef struct { const double *numbers; int row_step, term_step; } Factors;

// sums[row] += terms[t] * factors[row, t] for t = first, first + direction, ... The sums are in registers meanwhile.
static inline __attribute__((always_inline)) void multiply(int rows, Sums sums, Terms terms, Factors factors, int count,
    int direction)
{
    for (int column = 0; column < WIDTH; column += COLUMNS * LANES) {
        Vector tile[rows][COLUMNS], term[COLUMNS];
        UNROLLED (int row = 0; row < rows; row++)
            UNROLLED (int v = 0; v < COLUMNS; v++)
                tile[row][v] = load(sums.numbers + row * sums.step + column + v * LANES);
        ROLLED (int k = 0; k < count; k++) {
            int t = direction > 0 ? k : count - 1 - k;
            UNROLLED (int v = 0; v < COLUMNS; v++)
                term[v] = load(terms.numbers + t * terms.step + column + v * LANES);
            UNROLLED (int row = 0; row < rows; row++)
                UNROLLED (int v = 0; v < COLUMNS; v++)
                    tile[row][v] += term[v] * factors.numbers[row * factors.row_step + t * factors.term_step];
        }
        UNROLLED (int row = 0; row < rows; row++)
            UNROLLED (int v = 0; v < COLUMNS; v++)
                store(sums.numbers + row * sums.step + column + v * LANES, tile[row][v]);
    }
}

static inline Vector masked(Vector numbers, Mask mask)
{
    return (Vector)((Mask)numbers & mask);
}

// x < 0.0 ? 0.0 : x, which keeps -0.0.
static inline Vector relu(Vector x)
{
    return masked(x, ~(x < 0.0));
}

// What the gradient of a parameter begins with: 1e-4 p * p has it twice.
static inline Vector decay(Vector parameters)
{
    return parameters * 1e-4 + parameters * 1e-4;
}

// inputs: two coordinates per point; signs: minus the labels. Not reentrant. Return the value.
double moons(const double *restrict inputs, const double *restrict signs, const double *restrict parameters,
    double *restrict gradient)
{
    static Row hidden1[PADDED], hidden2[PADDED], bar1[PADDED], bar2[PADDED];
    static Row first[3], second[WIDTH + 1];  // by input, the bias last
    static double margins[PADDED], score_bars[PADDED];
    const double *rows = parameters + SECOND, *last = parameters + LAST;

    for (int j = 0; j < WIDTH; j++) {
        for (int k = 0; k < 3; k++)
            first[k][j] = parameters[FIRST + 3 * j + k];
        for (int k = 0; k <= WIDTH; k++)
            second[k][j] = rows[(WIDTH + 1) * j + k];
    }

    for (VECTORS(j)) {
        const Vector x = load(first[0] + j), y = load(first[1] + j), bias = load(first[2] + j);
        for (int p = 0; p < POINTS; p++)
            store(hidden1[p] + j, relu(bias + x * inputs[2 * p] + y * inputs[2 * p + 1]));
    }
    // Rows behind the last point hold whatever there is, and are not summed. The sum of squares has no lanes; its terms
    // are spread over the points, so that the processor adds them up behind the vectors.
    double loss = 0.0, squares = 0.0;
    for (int p = 0, term = 0; p < POINTS; p += POINT_ROWS) {
        UNROLLED (int row = 0; row < POINT_ROWS; row++)
            memcpy(hidden2[p + row], second[WIDTH], sizeof(Row));
        multiply(POINT_ROWS, (Sums){hidden2[p], WIDTH}, (Terms){second[0], WIDTH}, (Factors){hidden1[p], WIDTH, 1},
            WIDTH, +1);
        for (; term < PARAMETERS && term * POINTS < (p + POINT_ROWS) * PARAMETERS; term++)
            squares += parameters[term] * parameters[term];
    }
    for (int p = 0; p < POINTS; p += SCORE_ROWS) {
        double scores[SCORE_ROWS];
        UNROLLED (int row = 0; row < SCORE_ROWS; row++) {
            for (VECTORS(j))
                store(hidden2[p + row] + j, relu(load(hidden2[p + row] + j)));
            scores[row] = last[WIDTH];
        }
        for (int k = 0; k < WIDTH; k++)
            UNROLLED (int row = 0; row < SCORE_ROWS; row++)
                scores[row] += last[k] * hidden2[p + row][k];
        UNROLLED (int row = 0; row < SCORE_ROWS; row++) {
            int point = p + row < POINTS ? p + row : 0;
            double margin = 1.0 + signs[point] * scores[row];
            margins[p + row] = margin < 0.0 ? 0.0 : margin;
            score_bars[p + row] = margin > 0.0 ? signs[point] * (1.0 / POINTS) : 0.0;
        }
    }

    // Back through the second layer: its neurons from the last to the first.
    for (VECTORS(j)) {
        const Vector to_score = load(last + j);
        for (int p = 0; p < POINTS; p++) {
            store(bar2[p] + j, masked(to_score * score_bars[p], load(hidden2[p] + j) > 0.0));
            store(bar1[p] + j, -(Vector){});
        }
    }
    for (int p = 0; p < POINTS; p += POINT_ROWS) {
        multiply(POINT_ROWS, (Sums){bar1[p], WIDTH}, (Terms){rows, WIDTH + 1}, (Factors){bar2[p], WIDTH, 1}, WIDTH, -1);
        for (int row = 0; row < POINT_ROWS && p + row < POINTS; row++)
            loss += margins[p + row];
    }

    // The gradients, summed from the last point to the first.
    for (int k = 0; k < PARAMETERS; k++)
        gradient[k] = parameters[k] * 1e-4 + parameters[k] * 1e-4;
    for (int j = 0; j < WIDTH; j += NEURON_ROWS)
        multiply(NEURON_ROWS, (Sums){gradient + SECOND + (WIDTH + 1) * j, WIDTH + 1}, (Terms){hidden1[0], WIDTH},
            (Factors){bar2[0] + j, 1, WIDTH}, POINTS, -1);
    double bias = gradient[LAST + WIDTH];
    for (VECTORS(j)) {
        Vector x = decay(load(first[0] + j)), y = decay(load(first[1] + j)), bias1 = decay(load(first[2] + j));
        Vector bias2 = decay(load(second[WIDTH] + j)), weights = decay(load(last + j));
        for (int p = POINTS - 1; p >= 0; p--) {
            const Vector bar = masked(load(bar1[p] + j), load(hidden1[p] + j) > 0.0);
            x += bar * inputs[2 * p];
            y += bar * inputs[2 * p + 1];
            bias1 += bar;
            bias2 += load(bar2[p] + j);
            weights += load(hidden2[p] + j) * score_bars[p];
            if (j == 0)
                bias += score_bars[p];
        }
        for (int lane = 0; lane < LANES; lane++) {
            double *neuron = gradient + FIRST + 3 * (j + lane);
            neuron[0] = x[lane];
            neuron[1] = y[lane];
            neuron[2] = bias1[lane];
            gradient[SECOND + (WIDTH + 1) * (j + lane) + WIDTH] = bias2[lane];
        }
        store(gradient + LAST + j, weights);
    }
    gradient[LAST + WIDTH] = bias;
    for (int k = 0; k < PARAMETERS; k++)
        gradient[k] += 0.0;
    return loss * (1.0 / POINTS) + squares * 1e-4;
}
