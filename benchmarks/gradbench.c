// Functions of the GradBench suite with their gradients, as a C programmer derives and writes them by hand.
//
// Each function returns the value and writes the gradient. The loops are plain and run over contiguous arrays, sizes are
// arguments, and what has to be kept between the forward and the backward pass is in `work`, which the caller makes
// once. Sums are in any order that is convenient: the results agree with those of the graph to rounding.

#include <math.h>
#include <string.h>

static double sigmoid(double x)
{
    return 1.0 / (1.0 + exp(-x));
}

// Replace x by its softmax. Return the logarithm of the sum of exponentials.
static double softmax(long n, double *x)
{
    double largest = x[0], sum = 0.0;
    for (long i = 1; i < n; i++)
        largest = x[i] > largest ? x[i] : largest;
    for (long i = 0; i < n; i++) {
        x[i] = exp(x[i] - largest);
        sum += x[i];
    }
    const double scale = 1.0 / sum;
    for (long i = 0; i < n; i++)
        x[i] *= scale;
    return largest + log(sum);
}

double lse(long n, const double *restrict x, double *restrict x_bar)
{
    memcpy(x_bar, x, n * sizeof *x);
    return softmax(n, x_bar);
}

// work: 3 k d + 2 k numbers.
double gmm(long d, long k, long n, const double *restrict points, double *restrict work, const double *restrict alphas,
    const double *restrict means, const double *restrict icf, double *restrict alphas_bar, double *restrict means_bar,
    double *restrict icf_bar)
{
    const long size = d * (d + 1) / 2;
    double *restrict diagonals = work, *restrict all_centred = diagonals + k * d;
    double *restrict all_scaled = all_centred + k * d, *restrict sums = all_scaled + k * d, *restrict weights = sums + k;

    // The prior, a Wishart distribution with gamma = 1 and m = 0.
    double squares = 0.0;
    for (long j = 0; j < k; j++) {
        sums[j] = 0.0;
        for (long i = 0; i < d; i++) {
            sums[j] += icf[j * size + i];
            diagonals[j * d + i] = exp(icf[j * size + i]);
            squares += diagonals[j * d + i] * diagonals[j * d + i];
        }
        for (long i = d; i < size; i++)
            squares += icf[j * size + i] * icf[j * size + i];
    }
    double log_gamma = 0.25 * d * (d - 1) * log(M_PI);
    for (long i = 1; i <= d; i++)
        log_gamma += lgamma(0.5 * (d + 2 - i));
    double value = 0.5 * squares + k * (0.5 * (d + 1) * d * M_LN2 + log_gamma) - 0.5 * n * d * log(2.0 * M_PI);

    memset(alphas_bar, 0, k * sizeof *alphas_bar);
    memset(means_bar, 0, k * d * sizeof *means_bar);
    memset(icf_bar, 0, k * size * sizeof *icf_bar);
    for (long p = 0; p < n; p++) {
        const double *x = points + p * d;
        for (long j = 0; j < k; j++) {
            double *restrict centred = all_centred + j * d, *restrict scaled = all_scaled + j * d;
            const double *below = icf + j * size + d;
            for (long i = 0; i < d; i++) {
                centred[i] = x[i] - means[j * d + i];
                scaled[i] = diagonals[j * d + i] * centred[i];
            }
            for (long column = 0; column < d; column++)
                for (long row = column + 1; row < d; row++)
                    scaled[row] += *below++ * centred[column];
            double distance = 0.0;
            for (long i = 0; i < d; i++)
                distance += scaled[i] * scaled[i];
            weights[j] = alphas[j] + sums[j] - 0.5 * distance;
        }
        value += softmax(k, weights);
        for (long j = 0; j < k; j++) {
            const double *restrict centred = all_centred + j * d, *below = icf + j * size + d;
            double *restrict scaled = all_scaled + j * d, *restrict diagonal_bar = icf_bar + j * size;
            double *restrict below_bar = diagonal_bar + d;
            alphas_bar[j] += weights[j];
            for (long i = 0; i < d; i++) {
                scaled[i] *= weights[j];
                diagonal_bar[i] -= scaled[i] * centred[i];
                means_bar[j * d + i] += scaled[i] * diagonals[j * d + i];
            }
            for (long column = 0; column < d; column++) {
                double sum = 0.0;
                for (long row = column + 1; row < d; row++) {
                    *below_bar++ -= scaled[row] * centred[column];
                    sum += scaled[row] * *below++;
                }
                means_bar[j * d + column] += sum;
            }
        }
    }

    // What is the same for all points: factors of the diagonals, the prior, and the sum of the mixture's weights.
    for (long j = 0; j < k; j++) {
        for (long i = 0; i < d; i++) {
            const double diagonal = diagonals[j * d + i];
            icf_bar[j * size + i] = icf_bar[j * size + i] * diagonal + alphas_bar[j] + diagonal * diagonal;
        }
        for (long i = d; i < size; i++)
            icf_bar[j * size + i] += icf[j * size + i];
    }
    memcpy(weights, alphas, k * sizeof *weights);
    value -= n * softmax(k, weights);
    for (long j = 0; j < k; j++)
        alphas_bar[j] -= n * weights[j];
    return value;
}

double kmeans(long k, long n, long d, const double *restrict points, const double *restrict centres,
    double *restrict centres_bar)
{
    double value = 0.0;
    memset(centres_bar, 0, k * d * sizeof *centres_bar);
    for (long p = 0; p < n; p++) {
        const double *point = points + p * d;
        double least = INFINITY;
        long nearest = 0;
        for (long j = 0; j < k; j++) {
            double distance = 0.0;
            for (long i = 0; i < d; i++) {
                const double difference = point[i] - centres[j * d + i];
                distance += difference * difference;
            }
            if (distance < least) {
                least = distance;
                nearest = j;
            }
        }
        value += least;
        for (long i = 0; i < d; i++)
            centres_bar[nearest * d + i] += 2.0 * (centres[nearest * d + i] - point[i]);
    }
    return value;
}

// What a cell of the LSTM keeps for the way back: arrays of h numbers, one after the other.
enum { FORGET, INGATE, OUTGATE, CHANGE, STATE, SQUASHED, HIDDEN, KEPT };

// work: steps (7 layers + 2) h + 2 layers h + h numbers.
double lstm(long steps, long layers, long h, const double *restrict sequence, const double *restrict start,
    double *restrict work, const double *restrict main, const double *restrict extra, double *restrict main_bar,
    double *restrict extra_bar)
{
    double *cells = work, *restrict inputs = cells + steps * layers * KEPT * h, *restrict shares = inputs + steps * h;
    double *restrict hidden_bar = shares + steps * h, *restrict state_bar = hidden_bar + layers * h;
    double *restrict values_bar = state_bar + layers * h;
    double loss = 0.0;

    // The cells at time 0 hold what the network begins with.
    for (long layer = 0; layer < layers; layer++) {
        memcpy(cells + (layer * KEPT + HIDDEN) * h, start + layer * h, h * sizeof *cells);
        memcpy(cells + (layer * KEPT + STATE) * h, start + layer * h, h * sizeof *cells);
    }
    for (long t = 1; t < steps; t++) {
        const double *in = inputs + t * h, *target = sequence + t * h;
        double *restrict share = shares + t * h;
        for (long i = 0; i < h; i++)
            inputs[t * h + i] = sequence[(t - 1) * h + i] * extra[i];
        for (long layer = 0; layer < layers; layer++) {
            const double *weights = main + 2 * layer * 4 * h, *bias = weights + 4 * h;
            double *restrict cell = cells + (t * layers + layer) * KEPT * h;
            const double *before = cells + ((t - 1) * layers + layer) * KEPT * h;
            for (long i = 0; i < h; i++) {
                const double hidden = before[HIDDEN * h + i];
                cell[FORGET * h + i] = sigmoid(in[i] * weights[i] + bias[i]);
                cell[INGATE * h + i] = sigmoid(hidden * weights[h + i] + bias[h + i]);
                cell[OUTGATE * h + i] = sigmoid(in[i] * weights[2 * h + i] + bias[2 * h + i]);
                cell[CHANGE * h + i] = tanh(hidden * weights[3 * h + i] + bias[3 * h + i]);
                cell[STATE * h + i] = before[STATE * h + i] * cell[FORGET * h + i]
                    + cell[INGATE * h + i] * cell[CHANGE * h + i];
                cell[SQUASHED * h + i] = tanh(cell[STATE * h + i]);
                cell[HIDDEN * h + i] = cell[OUTGATE * h + i] * cell[SQUASHED * h + i];
            }
            in = cell + HIDDEN * h;
        }
        double sum = 2.0, of_targets = 0.0;
        for (long i = 0; i < h; i++) {
            const double predicted = in[i] * extra[h + i] + extra[2 * h + i];
            share[i] = exp(predicted);
            sum += share[i];
            of_targets += target[i];
            loss += target[i] * predicted;
        }
        loss -= of_targets * log(sum);
        for (long i = 0; i < h; i++)
            share[i] = target[i] - share[i] * (of_targets / sum);
    }

    const double scale = -1.0 / (h * (steps - 1));
    memset(main_bar, 0, 2 * layers * 4 * h * sizeof *main_bar);
    memset(extra_bar, 0, 3 * h * sizeof *extra_bar);
    memset(hidden_bar, 0, 2 * layers * h * sizeof *hidden_bar);
    for (long t = steps - 1; t > 0; t--) {
        const double *last = cells + ((t * layers + layers - 1) * KEPT + HIDDEN) * h;
        for (long i = 0; i < h; i++) {
            const double bar = scale * shares[t * h + i];
            extra_bar[h + i] += bar * last[i];
            extra_bar[2 * h + i] += bar;
            values_bar[i] = bar * extra[h + i];
        }
        for (long layer = layers - 1; layer >= 0; layer--) {
            const double *weights = main + 2 * layer * 4 * h;
            double *restrict weights_bar = main_bar + 2 * layer * 4 * h, *restrict bias_bar = weights_bar + 4 * h;
            const double *cell = cells + (t * layers + layer) * KEPT * h, *before = cell - layers * KEPT * h;
            const double *in = layer ? cell - KEPT * h + HIDDEN * h : inputs + t * h;
            for (long i = 0; i < h; i++) {
                const double forget = cell[FORGET * h + i], ingate = cell[INGATE * h + i];
                const double outgate = cell[OUTGATE * h + i], change = cell[CHANGE * h + i];
                const double squashed = cell[SQUASHED * h + i], hidden = before[HIDDEN * h + i];
                const double of_hidden = hidden_bar[layer * h + i] + values_bar[i];
                const double of_state = state_bar[layer * h + i] + of_hidden * outgate * (1.0 - squashed * squashed);
                const double of_forget = of_state * before[STATE * h + i] * forget * (1.0 - forget);
                const double of_ingate = of_state * change * ingate * (1.0 - ingate);
                const double of_outgate = of_hidden * squashed * outgate * (1.0 - outgate);
                const double of_change = of_state * ingate * (1.0 - change * change);
                weights_bar[i] += of_forget * in[i];
                weights_bar[h + i] += of_ingate * hidden;
                weights_bar[2 * h + i] += of_outgate * in[i];
                weights_bar[3 * h + i] += of_change * hidden;
                bias_bar[i] += of_forget;
                bias_bar[h + i] += of_ingate;
                bias_bar[2 * h + i] += of_outgate;
                bias_bar[3 * h + i] += of_change;
                state_bar[layer * h + i] = of_state * forget;
                hidden_bar[layer * h + i] = of_ingate * weights[h + i] + of_change * weights[3 * h + i];
                values_bar[i] = of_forget * weights[i] + of_outgate * weights[2 * h + i];
            }
        }
        for (long i = 0; i < h; i++)
            extra_bar[i] += values_bar[i] * sequence[(t - 1) * h + i];
    }
    return scale * loss;
}

// work: m numbers.
double llsq(long n, long m, double *restrict work, const double *restrict coefficients,
    double *restrict coefficients_bar)
{
    double value = 0.0;
    memset(coefficients_bar, 0, m * sizeof *coefficients_bar);
    for (long place = 0; place < n; place++) {
        const double t = -1.0 + 2.0 * place / (n - 1);
        double power = 1.0, residual = (t > 0.0) - (t < 0.0);
        for (long i = 0; i < m; i++) {
            work[i] = power;
            residual -= coefficients[i] * power;
            power *= t;
        }
        value += residual * residual;
        for (long i = 0; i < m; i++)
            coefficients_bar[i] -= residual * work[i];
    }
    return 0.5 * value;
}

// The determinant of the last rows, from `row` on, and some columns. The gradient is `bar` times as much.
static double expanded(long n, long row, const long *columns, const double *entries, double *entries_bar, double bar)
{
    const long left = n - row;
    const double *first = entries + row * n;
    double *first_bar = entries_bar + row * n, sum = 0.0;
    if (left == 2) {
        const long a = columns[0], b = columns[1];
        first_bar[a] += bar * first[n + b];
        first_bar[b] -= bar * first[n + a];
        first_bar[n + a] -= bar * first[b];
        first_bar[n + b] += bar * first[a];
        return first[a] * first[n + b] - first[b] * first[n + a];
    }
    long others[left - 1];
    memcpy(others, columns + 1, sizeof others);
    for (long k = 0; k < left; k++) {
        const double sign = k % 2 ? -1.0 : 1.0, factor = sign * first[columns[k]];
        const double minor = expanded(n, row + 1, others, entries, entries_bar, bar * factor);
        first_bar[columns[k]] += bar * sign * minor;
        sum += factor * minor;
        if (k < left - 1)
            others[k] = columns[k];
    }
    return sum;
}

// A determinant of two rows or more.
double det(long n, const double *restrict entries, double *restrict entries_bar)
{
    long columns[n];
    for (long k = 0; k < n; k++)
        columns[k] = k;
    memset(entries_bar, 0, n * n * sizeof *entries_bar);
    return expanded(n, 0, columns, entries, entries_bar, 1.0);
}
