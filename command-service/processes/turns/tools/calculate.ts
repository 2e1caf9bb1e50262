/**
 * Arithmetic with exact decimals. Pure, bounded in size and time, and safe: it parses a small grammar and
 * evaluates nothing else.
 *
 *   sum     = product (('+' | '-') product)*       a % after + or - is of what stands before it: 200 + 15% = 230
 *   product = power (('*' | '/' | 'of' | '%') power)*   '%' before an operand is the remainder
 *   power   = ('-' | '+') power | postfix ('^' power)?  so -2^2 = -4, and 2^3^2 = 2^9
 *   postfix = primary '%'*                          12.5% = 0.125
 *   primary = number | 'sqrt' '(' sum ')' | '(' sum ')'
 */
import { Decimal } from 'decimal.js';

const EXPRESSION_LENGTH = 500;
const DEPTH = 50;
/** Digits of an exact number, and the largest exponent of ten of any number. */
const DIGITS = 1_000;
/** What is shown of a number that has no end, such as 1/3. */
const SHOWN_DIGITS = 34;

const settings = { rounding: Decimal.ROUND_HALF_EVEN, maxE: 9e15, minE: -9e15, toExpNeg: -SHOWN_DIGITS };
/** Sums and products of numbers within the bounds come out exact with this many digits. */
const Exact = Decimal.clone({ ...settings, precision: 4 * DIGITS });
const Quotient = Decimal.clone({ ...settings, precision: DIGITS + 1 });
const ROUNDED_DIGITS = 100;
const Rounded = Decimal.clone({ ...settings, precision: ROUNDED_DIGITS, toExpPos: SHOWN_DIGITS });

interface Value {
  readonly number: Decimal;
  /** False once something had to be rounded. */
  readonly exact: boolean;
}

/**
 * The value of an expression such as `12.5% of 80` or `sqrt(2)^2`, as a decimal number: exact where it ends
 * within 1,000 digits, else with 34 significant digits.
 * @throws Error whose message says in plain words what is wrong
 */
export function calculate(expression: string): string {
  if (expression.length > EXPRESSION_LENGTH) {
    throw new Error(`The expression is too long: at most ${EXPRESSION_LENGTH} characters.`);
  }
  const { number, exact } = parse(tokensOf(expression));
  if (number.isZero()) return '0';
  return exact ? number.toFixed() : new Rounded(number).toSignificantDigits(SHOWN_DIGITS).toString();
}

// ── the grammar ──────────────────────────────────────────────────────────

interface Token {
  readonly kind: 'number' | 'word' | 'sign' | 'end';
  readonly text: string;
  /** Its first character, counted from 1. */
  readonly at: number;
}

const TOKEN =
  /\s*(?:((?:\d{1,3}(?:,\d{3})+(?![\d,])|\d+)(?:\.\d*)?(?:e[+-]?\d+)?|\.\d+(?:e[+-]?\d+)?)|([a-z]+)|(\*\*|[-+*/^%()×÷−·]))/iy;
const sameSign: ReadonlyMap<string, string> = new Map([
  ['×', '*'],
  ['·', '*'],
  ['÷', '/'],
  ['−', '-'],
  ['**', '^'],
]);

function tokensOf(expression: string): readonly Token[] {
  const tokens: Token[] = [];
  const text = expression.trimEnd();
  const pattern = new RegExp(TOKEN);
  while (pattern.lastIndex < text.length) {
    const start = pattern.lastIndex;
    const match = pattern.exec(text);
    if (match === null) {
      const bad = text.slice(start).trimStart();
      throw new Error(`I do not understand “${[...bad][0]}” at character ${text.length - bad.length + 1}.`);
    }
    const [whole, number, word, sign] = match;
    const read = number ?? word ?? sign ?? '';
    tokens.push({
      kind: number !== undefined ? 'number' : word !== undefined ? 'word' : 'sign',
      text: number !== undefined ? number.replaceAll(',', '') : (sameSign.get(read) ?? read.toLowerCase()),
      at: start + whole.length - read.length + 1,
    });
  }
  return [...tokens, { kind: 'end', text: '', at: text.length + 1 }];
}

function parse(tokens: readonly Token[]): Value {
  const end = tokens.at(-1)!;
  let index = 0;
  let depth = 0;
  const peek = (ahead = 0): Token => tokens[index + ahead] ?? end;
  const take = (text: string): boolean => {
    const taken = peek().kind !== 'end' && peek().text === text;
    if (taken) index += 1;
    return taken;
  };
  const unexpected = (token: Token): Error =>
    new Error(
      token.kind === 'end'
        ? 'The expression ends too early.'
        : `I did not expect “${token.text}” at character ${token.at}.`,
    );
  const nested = <Result>(read: () => Result): Result => {
    depth += 1;
    if (depth > DEPTH) throw new Error(`The expression is nested too deeply: at most ${DEPTH} levels.`);
    const result = read();
    depth -= 1;
    return result;
  };

  const sum = (): Value => {
    let left = product().value;
    for (;;) {
      const operate = take('+') ? add : take('-') ? subtract : null;
      if (operate === null) return left;
      const right = product();
      left = operate(left, right.percentage ? multiply(left, right.value) : right.value);
    }
  };

  /** `percentage`: it is nothing but a number with a percent sign. */
  const product = (): { value: Value; percentage: boolean } => {
    const first = index;
    let value = power();
    const percentage =
      peek(-1).text === '%' && tokens.slice(first, index - 1).every(({ kind }) => kind === 'number');
    let single = true;
    for (;;) {
      const operate = take('*') || take('of') ? multiply : take('/') ? divide : take('%') ? remainder : null;
      if (operate === null) return { value, percentage: percentage && single };
      value = operate(value, power());
      single = false;
    }
  };

  const power = (): Value =>
    nested(() => {
      if (take('-')) return negate(power());
      if (take('+')) return power();
      const base = postfix();
      return take('^') ? raise(base, power()) : base;
    });

  const postfix = (): Value => {
    let value = primary();
    while (peek().text === '%' && !startsOperand(peek(1))) {
      index += 1;
      value = divide(value, HUNDRED);
    }
    return value;
  };

  const primary = (): Value => {
    const token = peek();
    if (token.kind === 'number') {
      index += 1;
      return bounded(new Exact(token.text), true);
    }
    const root = take('sqrt');
    if (!take('(')) throw unexpected(peek());
    const value = nested(sum);
    if (!take(')'))
      throw peek().kind === 'end' ? new Error('A parenthesis is not closed.') : unexpected(peek());
    return root ? squareRoot(value) : value;
  };

  const value = sum();
  if (peek().kind !== 'end') throw unexpected(peek());
  return value;
}

const startsOperand = (token: Token): boolean =>
  token.kind === 'number' || token.text === '(' || token.text === 'sqrt';

// ── the operations ───────────────────────────────────────────────────────

const HUNDRED: Value = { number: new Exact(100), exact: true };

function bounded(number: Decimal, exact: boolean): Value {
  if (number.isNaN()) throw new Error('The result is not a real number.');
  if (!number.isFinite() || (!number.isZero() && Math.abs(number.e) > DIGITS)) {
    throw new Error(`A number becomes too large or too small: at most ${DIGITS} digits.`);
  }
  // An exact number that is too long goes on rounded, and says so.
  return exact && number.precision() <= DIGITS
    ? { number, exact }
    : { number: new Rounded(number).toSignificantDigits(Rounded.precision), exact: false };
}

/** With all digits while both are exact, else rounded. */
const operation =
  (operate: (a: Decimal, b: Decimal) => Decimal) =>
  (a: Value, b: Value): Value => {
    const exact = a.exact && b.exact;
    const Arithmetic = exact ? Exact : Rounded;
    return bounded(operate(new Arithmetic(a.number), new Arithmetic(b.number)), exact);
  };

const add = operation((a, b) => a.plus(b));
const subtract = operation((a, b) => a.minus(b));
const multiply = operation((a, b) => a.times(b));
const negate = (value: Value): Value => ({ number: value.number.negated(), exact: value.exact });

function divide(a: Value, b: Value): Value {
  if (b.number.isZero()) throw new Error('Division by zero.');
  if (a.exact && b.exact) {
    const quotient = new Quotient(a.number).div(b.number);
    if (new Exact(quotient).times(b.number).equals(a.number)) return bounded(quotient, true);
  }
  return bounded(new Rounded(a.number).div(b.number), false);
}

/** With the sign of the dividend, as in most programming languages. */
function remainder(a: Value, b: Value): Value {
  if (b.number.isZero()) throw new Error('Division by zero.');
  return operation((x, y) => x.mod(y))(a, b);
}

function squareRoot({ number, exact }: Value): Value {
  if (number.isNegative() && !number.isZero()) {
    throw new Error('The square root of a negative number is not a real number.');
  }
  if (exact) {
    // A root of q digits that ends has a square of 2q - 1 or 2q: most need not be computed to their last digit.
    const Enough = number.precision() < 2 * ROUNDED_DIGITS ? Rounded : Quotient;
    const root = new Enough(number).sqrt();
    if (new Exact(root).times(root).equals(number)) return bounded(root, true);
  }
  return bounded(new Rounded(number).sqrt(), false);
}

function raise(base: Value, exponent: Value): Value {
  const { number } = base;
  const times = exponent.number;
  if (times.isZero()) return { number: new Exact(1), exact: true };
  if (number.isZero()) {
    if (times.isNegative()) throw new Error('Division by zero.');
    return base;
  }
  if (!times.isInteger()) {
    if (number.isNegative()) {
      throw new Error('A negative number to a fractional power is not a real number.');
    }
    if (times.equals(0.5)) return squareRoot(base);
  }
  // Before it is computed: how large, and (for whole exponents) how many digits.
  const magnitude = Math.abs(times.toNumber() * log10(number));
  if (magnitude > DIGITS)
    throw new Error(`A number becomes too large or too small: at most ${DIGITS} digits.`);
  const digits = Math.abs(times.toNumber()) * (log10(number) - number.e + number.precision() - 1);
  if (!base.exact || !exponent.exact || !times.isInteger() || digits > DIGITS) {
    return bounded(new Rounded(number).pow(new Rounded(times)), false);
  }
  const result = bounded(new Exact(number).pow(times.abs()), true);
  return times.isNegative() ? divide({ number: new Exact(1), exact: true }, result) : result;
}

/** Of its absolute value; good to some 15 digits. */
const log10 = (number: Decimal): number =>
  number.e + Math.log10(Number(`${number.abs().toExponential(15)}`.replace(/e.*$/, '')));
