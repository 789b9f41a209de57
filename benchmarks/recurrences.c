// Values and gradients of recurrences by hand: forwards with all that is needed later in arrays, then backwards.

#include <math.h>

// The pendulum theta'' = -k sin(theta) - c theta', by so many steps of Runge-Kutta: theta^2 + theta' at the end.
// `work` has room for 8 numbers per step.
double pendulum(long steps, double *work, const double *p, double *p_bar)
{
    const double h = 0.01, k = p[2], c = p[3];
    double theta = p[0], omega = p[1];
    for (long t = 0; t < steps; t++) {
        double *w = work + 8 * t;
        const double a1 = omega, b1 = -k * sin(theta) - c * omega;
        const double theta2 = theta + 0.5 * h * a1, omega2 = omega + 0.5 * h * b1;
        const double b2 = -k * sin(theta2) - c * omega2;
        const double theta3 = theta + 0.5 * h * omega2, omega3 = omega + 0.5 * h * b2;
        const double b3 = -k * sin(theta3) - c * omega3;
        const double theta4 = theta + h * omega3, omega4 = omega + h * b3;
        const double b4 = -k * sin(theta4) - c * omega4;
        w[0] = theta, w[1] = omega, w[2] = theta2, w[3] = omega2;
        w[4] = theta3, w[5] = omega3, w[6] = theta4, w[7] = omega4;
        theta += h / 6 * (a1 + 2 * omega2 + 2 * omega3 + omega4);
        omega += h / 6 * (b1 + 2 * b2 + 2 * b3 + b4);
    }
    const double value = theta * theta + omega;
    double theta_bar = 2 * theta, omega_bar = 1, k_bar = 0, c_bar = 0;
    for (long t = steps - 1; t >= 0; t--) {
        const double *w = work + 8 * t;
        double a_bar[4], b_bar[4], next_theta = theta_bar, next_omega = omega_bar;
        static const double share[4] = {1, 2, 2, 1}, reach[4] = {0, 0.5 * 0.01, 0.5 * 0.01, 0.01};
        for (int s = 0; s < 4; s++) {
            a_bar[s] = h / 6 * share[s] * theta_bar;
            b_bar[s] = h / 6 * share[s] * omega_bar;
        }
        for (int s = 3; s >= 0; s--) {
            const double at = w[2 * s], speed = w[2 * s + 1];
            const double at_bar = -k * cos(at) * b_bar[s], speed_bar = a_bar[s] - c * b_bar[s];
            k_bar -= sin(at) * b_bar[s];
            c_bar -= speed * b_bar[s];
            next_theta += at_bar;
            next_omega += speed_bar;
            if (s > 0) {
                a_bar[s - 1] += reach[s] * at_bar;
                b_bar[s - 1] += reach[s] * speed_bar;
            }
        }
        theta_bar = next_theta, omega_bar = next_omega;
    }
    p_bar[0] = theta_bar, p_bar[1] = omega_bar, p_bar[2] = k_bar, p_bar[3] = c_bar;
    return value;
}

// The negative log-likelihood (up to constants) of returns under GARCH(1,1); `work` has room for the variances.
double garch(long count, const double *returns, double *work, const double *p, double *p_bar)
{
    const double omega = p[0], alpha = p[1], beta = p[2];
    double variance = omega, loss = 0;
    for (long t = 0; t < count; t++) {
        const double square = returns[t] * returns[t];
        work[t] = variance;
        loss += log(variance) + square / variance;
        variance = omega + alpha * square + beta * variance;
    }
    double bar = 0, omega_bar = 0, alpha_bar = 0, beta_bar = 0;
    for (long t = count - 1; t >= 0; t--) {
        const double inverse = 1 / work[t];
        bar = bar * beta + inverse - returns[t] * returns[t] * inverse * inverse;
        omega_bar += bar;
        if (t > 0) {
            alpha_bar += bar * returns[t - 1] * returns[t - 1];
            beta_bar += bar * work[t - 1];
        }
    }
    p_bar[0] = omega_bar, p_bar[1] = alpha_bar, p_bar[2] = beta_bar;
    return loss;
}
