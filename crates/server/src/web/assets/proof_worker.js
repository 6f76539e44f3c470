// The smallest number whose SHA-256, after the challenge and a full stop, begins with so many zero bits (FIPS 180-4). Written out here
// because the browser's own digest answers by promises, one of which for each number takes ten times as long.
const roots = (count, power) => {
  const words = [];
  for (let n = 2; words.length < count; n += 1) {
    let prime = true;
    for (let d = 2; d * d <= n && prime; d += 1) prime = n % d !== 0;
    if (prime) words.push(((n ** power) * 4294967296) | 0);
  }
  return words;
};
const START = roots(8, 1 / 2);
const ROUND = roots(64, 1 / 3);
const turn = (word, by) => (word >>> by) | (word << (32 - by));
const w = new Int32Array(64);

const compress = (state, bytes, from) => {
  for (let i = 0; i < 16; i += 1) {
    const at = from + 4 * i;
    w[i] = (bytes[at] << 24) | (bytes[at + 1] << 16) | (bytes[at + 2] << 8) | bytes[at + 3];
  }
  for (let i = 16; i < 64; i += 1) {
    const [x, y] = [w[i - 15], w[i - 2]];
    const s0 = turn(x, 7) ^ turn(x, 18) ^ (x >>> 3);
    const s1 = turn(y, 17) ^ turn(y, 19) ^ (y >>> 10);
    w[i] = (w[i - 16] + s0 + w[i - 7] + s1) | 0;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let i = 0; i < 64; i += 1) {
    const s1 = turn(e, 6) ^ turn(e, 11) ^ turn(e, 25);
    const one = (h + s1 + ((e & f) ^ (~e & g)) + ROUND[i] + w[i]) | 0;
    const s0 = turn(a, 2) ^ turn(a, 13) ^ turn(a, 22);
    const two = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + one) | 0, c, b, a, (one + two) | 0];
  }
  return [state[0] + a, state[1] + b, state[2] + c, state[3] + d, state[4] + e, state[5] + f, state[6] + g, state[7] + h].map((x) => x | 0);
};

const solve = (challenge, bits) => {
  const head = new TextEncoder().encode(`${challenge}.`);
  // Whole blocks of the challenge are the same for every number.
  const whole = head.length - (head.length % 64);
  let before = START;
  for (let at = 0; at < whole; at += 64) before = compress(before, head, at);
  const rest = head.slice(whole);
  for (let number = 0; ; number += 1) {
    const digits = String(number);
    const length = rest.length + digits.length;
    const tail = new Uint8Array(length + 9 <= 64 ? 64 : 128);
    tail.set(rest);
    for (let i = 0; i < digits.length; i += 1) tail[rest.length + i] = digits.charCodeAt(i);
    tail[length] = 0x80;
    new DataView(tail.buffer).setUint32(tail.length - 4, (whole + length) * 8);
    let state = compress(before, tail, 0);
    if (tail.length > 64) state = compress(state, tail, 64);
    if (bits <= 32 && state[0] >>> (32 - bits) === 0) return digits;
  }
};

self.addEventListener("message", ({ data }) => self.postMessage(solve(data.challenge, data.bits)));
