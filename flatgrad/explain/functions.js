// Functions that JavaScript does not have.
const fmod = (a, b) => a % b;
const copysign = (a, b) => (b < 0 || Object.is(b, -0) ? -Math.abs(a) : Math.abs(a));
const rint = (x) => (Math.abs(x) < 4503599627370496 ? copysign(Math.abs(x) + 4503599627370496 - 4503599627370496, x) : x);
// exp(-x * x), with x cut in two, so that the square is exact where it is large.
function bell(x) {
  const high = Math.fround(x);
  return Math.exp(-high * high) * Math.exp((high - x) * (high + x));
}
// Up to 1.5 the series of Kummer, whose terms are positive; beyond it Laplace's continued fraction (DLMF 7.6.2 and 7.9.1).
function erf(x) {
  const a = Math.abs(x);
  if (!(a < 1.5)) return a !== a ? a : copysign(1 - erfc(a), x);
  let sum = a, term = a;
  for (let n = 1; term > 1e-17 * sum; n++) {
    term = term * 2 * a * a / (2 * n + 1);
    sum = sum + term;
  }
  return copysign(1.1283791670955126 * bell(a) * sum, x);
}
function erfc(x) {
  if (x !== x) return x;
  if (x < 1) return 1 - erf(x);
  if (x > 27.3) return 0;
  let fraction = 0;
  for (let n = Math.ceil(25 + 240 / (x * x)); n > 0; n--) fraction = 0.5 * n / (x + fraction);
  return 0.5641895835477563 * bell(x) / (x + fraction);
}
