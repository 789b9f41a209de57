// The moons value and gradient as a C programmer writes it by hand for speed: the bar for generated machine code.
//
// It is exact: the same additions in the same order as the interpreted graph. The graph adds up a neuron from its bias
// on, and the gradient of a parameter from the two equal terms of its square on, then point by point from the last to
// the first. So a sum cannot be split, and what runs side by side are the 16 neurons of a layer: two vectors of eight.
// Where the processor's vectors are shorter, gcc splits them. Compile without contraction: a * b + c is rounded twice.
//
// Masked gradients are +0.0 where the graph has a zero with the sign of what is masked. No sum can tell: they all end
// with + 0.0, as the graph's do.

#include <string.h>

enum { WIDTH = 16, FIRST = 0, SECOND = 48, LAST = 320, PARAMETERS = 337 };

// Points are computed in blocks: a vector of weights that was loaded serves all of a block, whose sums hide each
// other's latency. NEURONS rows of the second layer's gradient are summed at a time: as many as registers hold.
enum { BLOCK = 4, PADDED = (POINTS + BLOCK - 1) / BLOCK * BLOCK, NEURONS = 8 };

typedef double Vector __attribute__((vector_size(64)));
typedef long long Mask __attribute__((vector_size(64)));
typedef struct { Vector low, high; } Layer;  // a number per neuron

static inline Layer load(const double *numbers)
{
    Layer layer;
    memcpy(&layer, numbers, sizeof layer);
    return layer;
}

static inline void add(Layer *sum, Layer terms)
{
    sum->low += terms.low;
    sum->high += terms.high;
}

static inline Layer times(Layer layer, double factor)
{
    return (Layer){layer.low * factor, layer.high * factor};
}

static inline Vector masked(Vector numbers, Mask mask)
{
    return (Vector)((Mask)numbers & mask);
}

// Zeros where `by` is not positive.
static inline Layer where_positive(Layer layer, Layer by)
{
    return (Layer){masked(layer.low, by.low > 0.0), masked(layer.high, by.high > 0.0)};
}

// x < 0.0 ? 0.0 : x, which keeps -0.0.
static inline Layer relu(Layer x)
{
    return (Layer){masked(x.low, ~(x.low < 0.0)), masked(x.high, ~(x.high < 0.0))};
}

// What the gradient of a parameter begins with: 1e-4 p * p has it twice.
static inline Layer decay(Layer parameters)
{
    Layer half = times(parameters, 1e-4);
    add(&half, half);
    return half;
}

static inline void store(double *numbers, Layer sum)
{
    sum.low += 0.0;
    sum.high += 0.0;
    memcpy(numbers, &sum, sizeof sum);
}

// inputs: two coordinates per point; signs: minus the labels. Not reentrant. Return the value.
double moons(const double *restrict inputs, const double *restrict signs, const double *restrict parameters,
    double *restrict gradient)
{
    static Layer hidden1[PADDED], hidden2[PADDED], bar1[PADDED], bar2[PADDED];
    static double margins[PADDED], score_bars[PADDED];
    static Layer first[3], second[WIDTH + 1];  // by input, the bias last
    const double *rows = parameters + SECOND, *last = parameters + LAST;

    for (int j = 0; j < WIDTH; j++) {
        for (int k = 0; k < 3; k++)
            ((double *)&first[k])[j] = parameters[FIRST + 3 * j + k];
        for (int k = 0; k <= WIDTH; k++)
            ((double *)&second[k])[j] = rows[(WIDTH + 1) * j + k];
    }

    // Points behind the last are computed from whatever there is, and not summed.
    double loss = 0.0;
    for (int block = 0; block < POINTS; block += BLOCK) {
        Layer sums[BLOCK];
        for (int p = 0; p < BLOCK; p++) {
            int point = block + p < POINTS ? block + p : 0;
            Layer sum = first[2];
            add(&sum, times(first[0], inputs[2 * point]));
            add(&sum, times(first[1], inputs[2 * point + 1]));
            hidden1[block + p] = relu(sum);
            sums[p] = second[WIDTH];
        }
        for (int k = 0; k < WIDTH; k++)
            for (int p = 0; p < BLOCK; p++)
                add(&sums[p], times(second[k], ((double *)&hidden1[block + p])[k]));
        for (int p = 0; p < BLOCK; p++)
            hidden2[block + p] = relu(sums[p]);
    }
    for (int block = 0; block < POINTS; block += BLOCK) {
        double scores[BLOCK];
        for (int p = 0; p < BLOCK; p++)
            scores[p] = last[WIDTH];
        for (int k = 0; k < WIDTH; k++)
            for (int p = 0; p < BLOCK; p++)
                scores[p] += last[k] * ((double *)&hidden2[block + p])[k];
        for (int p = 0; p < BLOCK; p++) {
            int point = block + p < POINTS ? block + p : 0;
            double margin = 1.0 + signs[point] * scores[p];
            margins[block + p] = margin < 0.0 ? 0.0 : margin;
            score_bars[block + p] = margin > 0.0 ? signs[point] * (1.0 / POINTS) : 0.0;
        }
    }
    for (int p = 0; p < POINTS; p++)
        loss += margins[p];

    // Back through the second layer: its neurons from the last to the first.
    const Layer to_score = load(last);
    for (int block = 0; block < POINTS; block += BLOCK) {
        Layer sums[BLOCK];
        for (int p = 0; p < BLOCK; p++) {
            bar2[block + p] = where_positive(times(to_score, score_bars[block + p]), hidden2[block + p]);
            sums[p] = (Layer){-(Vector){}, -(Vector){}};
        }
        for (int j = WIDTH - 1; j >= 0; j--) {
            const Layer row = load(rows + (WIDTH + 1) * j);
            for (int p = 0; p < BLOCK; p++)
                add(&sums[p], times(row, ((double *)&bar2[block + p])[j]));
        }
        for (int p = 0; p < BLOCK; p++)
            bar1[block + p] = where_positive(sums[p], hidden1[block + p]);
    }

    // The gradients, summed from the last point to the first.
    for (int start = 0; start < WIDTH; start += NEURONS) {
        Layer sums[NEURONS];
        for (int j = 0; j < NEURONS; j++)
            sums[j] = decay(load(rows + (WIDTH + 1) * (start + j)));
        for (int p = POINTS - 1; p >= 0; p--) {
            const Layer input = hidden1[p];
            for (int j = 0; j < NEURONS; j++)
                add(&sums[j], times(input, ((double *)&bar2[p])[start + j]));
        }
        for (int j = 0; j < NEURONS; j++)
            store(gradient + SECOND + (WIDTH + 1) * (start + j), sums[j]);
    }
    Layer sums[5] = {decay(first[0]), decay(first[1]), decay(first[2]), decay(second[WIDTH]), decay(to_score)};
    double bias = 1e-4 * last[WIDTH] + 1e-4 * last[WIDTH];
    for (int p = POINTS - 1; p >= 0; p--) {
        add(&sums[0], times(bar1[p], inputs[2 * p]));
        add(&sums[1], times(bar1[p], inputs[2 * p + 1]));
        add(&sums[2], bar1[p]);
        add(&sums[3], bar2[p]);
        add(&sums[4], times(hidden2[p], score_bars[p]));
        bias += score_bars[p];
    }
    for (int j = 0; j < WIDTH; j++) {
        for (int k = 0; k < 3; k++)
            gradient[FIRST + 3 * j + k] = ((double *)&sums[k])[j] + 0.0;
        gradient[SECOND + (WIDTH + 1) * j + WIDTH] = ((double *)&sums[3])[j] + 0.0;
    }
    store(gradient + LAST, sums[4]);
    gradient[LAST + WIDTH] = bias + 0.0;

    double squares = 0.0;
    for (int k = 0; k < PARAMETERS; k++)
        squares += parameters[k] * parameters[k];
    return loss * (1.0 / POINTS) + squares * 1e-4;
}
