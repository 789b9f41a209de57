// The gradients of two programs of `gradbench.py`, written by hand: one loop over the points.
#include <math.h>
#include <string.h>

#define MOST 64  // dimensions, and clusters

// The log-likelihood of a mixture of k Gaussians in d dimensions: n points; per cluster a weight, a mean, and the
// logarithms of a triangle's diagonal, then what lies below by columns.
double gmm(int d, int k, int n, const double *x, const double *alphas, const double *means, const double *icf,
           double *alphas_bar, double *means_bar, double *icf_bar) {
    const int cells = d * (d - 1) / 2, size = d + cells;
    double diagonal[MOST][MOST], diagonal_bar[MOST][MOST], centred[MOST][MOST], scaled[MOST][MOST];
    double sums[MOST], terms[MOST], weights[MOST];
    double total = 0.0, squares = 0.0, alpha_sum = 0.0, highest = alphas[0], lgamma_sum = 0.25 * d * (d - 1) * log(M_PI);
    memset(alphas_bar, 0, sizeof(double) * k);
    memset(means_bar, 0, sizeof(double) * k * d);
    memset(icf_bar, 0, sizeof(double) * k * size);
    for (int j = 0; j < k; j++) {
        sums[j] = weights[j] = 0.0;
        for (int i = 0; i < d; i++) {
            sums[j] += icf[j * size + i];
            diagonal[j][i] = exp(icf[j * size + i]);
            diagonal_bar[j][i] = 0.0;
        }
    }
    for (int point = 0; point < n; point++) {
        double largest = -INFINITY, sum = 0.0;
        for (int j = 0; j < k; j++) {
            double *c = centred[j], *s = scaled[j], square = 0.0;
            const double *below = icf + j * size + d;
            for (int i = 0; i < d; i++) c[i] = x[point * d + i] - means[j * d + i];
            for (int i = 0; i < d; i++) s[i] = diagonal[j][i] * c[i];
            for (int column = 0; column < d; column++)
                for (int row = column + 1; row < d; row++) s[row] += *below++ * c[column];
            for (int i = 0; i < d; i++) square += s[i] * s[i];
            terms[j] = alphas[j] + sums[j] - 0.5 * square;
            if (terms[j] > largest) largest = terms[j];
        }
        for (int j = 0; j < k; j++) sum += terms[j] = exp(terms[j] - largest);
        total += largest + log(sum);
        for (int j = 0; j < k; j++) {
            const double weight = terms[j] / sum, *below = icf + j * size + d;
            double *c = centred[j], *s = scaled[j], *below_bar = icf_bar + j * size + d, c_bar[MOST];
            weights[j] += weight;
            for (int i = 0; i < d; i++) {
                s[i] *= -weight;
                diagonal_bar[j][i] += s[i] * c[i];
                c_bar[i] = s[i] * diagonal[j][i];
            }
            for (int column = 0; column < d; column++) {
                double inner = 0.0;
                for (int row = column + 1; row < d; row++) {
                    *below_bar++ += s[row] * c[column];
                    inner += s[row] * *below++;
                }
                c_bar[column] += inner;
            }
            for (int i = 0; i < d; i++) means_bar[j * d + i] -= c_bar[i];
        }
    }
    for (int j = 1; j < k; j++) highest = fmax(highest, alphas[j]);
    for (int j = 0; j < k; j++) alpha_sum += exp(alphas[j] - highest);
    for (int j = 0; j < k; j++) {
        alphas_bar[j] = weights[j] - n * exp(alphas[j] - highest) / alpha_sum;
        for (int i = 0; i < d; i++) {
            const double q = diagonal[j][i];
            squares += q * q;
            icf_bar[j * size + i] = diagonal_bar[j][i] * q + weights[j] + q * q;
        }
        for (int i = d; i < size; i++) {
            squares += icf[j * size + i] * icf[j * size + i];
            icf_bar[j * size + i] += icf[j * size + i];
        }
    }
    for (int i = 1; i <= d; i++) lgamma_sum += lgamma(0.5 * (d + 2 - i));
    return -n * d * 0.5 * log(2 * M_PI) + total - n * (highest + log(alpha_sum)) + 0.5 * squares
           - k * ((d + 1) * d * -0.5 * log(2.0) - lgamma_sum);
}

// The sum over n points of the squared distance to the nearest of k centres.
double kmeans(int k, int n, int d, const double *x, const double *centres, double *centres_bar) {
    double total = 0.0;
    memset(centres_bar, 0, sizeof(double) * k * d);
    for (int point = 0; point < n; point++) {
        double least = INFINITY;
        int nearest = 0;
        for (int j = 0; j < k; j++) {
            double square = 0.0;
            for (int i = 0; i < d; i++) {
                const double distance = x[point * d + i] - centres[j * d + i];
                square += distance * distance;
            }
            if (square < least) least = square, nearest = j;
        }
        total += least;
        for (int i = 0; i < d; i++)
            centres_bar[nearest * d + i] -= 2.0 * (x[point * d + i] - centres[nearest * d + i]);
    }
    return total;
}
