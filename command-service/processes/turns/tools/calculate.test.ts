import { expect } from 'chai';
import fc from 'fast-check';
import { calculate } from './calculate.ts';

describe('calculate', () => {
  const third = `0.${'3'.repeat(34)}`;
  const cases: readonly (readonly [string, string])[] = [
    ['0.1+0.2', '0.3'],
    ['1/3', third],
    ['(1/3)*3', '1'],
    ['2/3 + 1/3', '1'],
    ['12.5% of 80', '10'],
    ['50% of 50% of 80', '20'],
    ['5%', '0.05'],
    ['200 + 15%', '230'],
    ['200 - 15%', '170'],
    ['100 - 10% of 50', '95'],
    ['10 % 3', '1'],
    ['-10 % 3', '-1'],
    ['2+2*3', '8'],
    ['(2+2)*3', '12'],
    ['10-4-3', '3'],
    ['100/10/5', '2'],
    ['-2^2', '-4'],
    ['(-2)^2', '4'],
    ['2^3^2', '512'],
    ['2^-1', '0.5'],
    ['2**10', '1024'],
    ['0^0', '1'],
    ['--3', '3'],
    ['3 × 4 ÷ 2 − 1', '5'],
    ['1,234.5 * 2', '2469'],
    ['1e3 + .5', '1000.5'],
    ['sqrt(16)', '4'],
    ['SQRT(2)', '1.414213562373095048801688724209698'],
    ['sqrt(2)^2', '2'],
    ['2^0.5', '1.414213562373095048801688724209698'],
    ['(10^50+2)/2', '50000000000000000000000000000000000000000000000001'],
    ['1/3^200', '3.764861949599026419883421890011116e-96'],
    ['-0', '0'],
    ['7 - 7', '0'],
  ];
  for (const [expression, result] of cases) {
    it(`${expression} = ${result}`, () => expect(calculate(expression)).to.equal(result));
  }

  const errors: readonly (readonly [string, RegExp])[] = [
    ['', /ends too early/],
    ['1+', /ends too early/],
    ['(1+2', /parenthesis is not closed/],
    ['1+2)', /did not expect “\)” at character 4/],
    ['2(3)', /did not expect “\(” at character 2/],
    ['1..2', /did not expect “\.2” at character 3/],
    ['2 $ 3', /do not understand “\$” at character 3/],
    ['process(1)', /did not expect “process”/],
    ['constructor', /did not expect “constructor”/],
    ['1/0', /Division by zero/],
    ['1 % 0', /Division by zero/],
    ['0^-1', /Division by zero/],
    ['sqrt(-1)', /not a real number/],
    ['(-8)^(1/3)', /not a real number/],
    ['9^9^9', /too large or too small/],
    ['9^-9^9', /too large or too small/],
    ['1e2000', /too large or too small/],
    ['1e99999999999999999999', /too large or too small/],
    ['('.repeat(60), /nested too deeply/],
    [`${'-'.repeat(60)}1`, /nested too deeply/],
    [`1${'+1'.repeat(250)}`, /too long/],
  ];
  for (const [expression, message] of errors) {
    it(`refuses ${expression.slice(0, 20)}`, () =>
      expect(() => calculate(expression)).to.throw(Error, message));
  }

  const integer = fc.bigInt({ min: -(10n ** 60n), max: 10n ** 60n });

  it('is exact for whole numbers, like BigInt', () =>
    fc.assert(
      fc.property(integer, integer, integer, (a, b, c) => {
        expect(calculate(`${a} + ${b} * (${c})`)).to.equal(String(a + b * c));
        expect(calculate(`(${a} - ${b}) * (${c})`)).to.equal(String((a - b) * c));
        expect(calculate(`(${a}) * (${b}) * (${c})`)).to.equal(String(a * b * c));
        if (b !== 0n) {
          expect(calculate(`(${a}) % (${b})`)).to.equal(String(a % b));
          expect(calculate(`(${a}) * (${b}) / (${b})`)).to.equal(String(a));
        }
        expect(calculate(`sqrt((${a})^2)`)).to.equal(String(a < 0n ? -a : a));
      }),
    ));

  it('finds roots that end, however many digits they have', () => {
    for (const length of [1, 99, 100, 101, 200]) {
      for (const digit of ['1', '3', '9']) {
        const root = digit.repeat(length);
        expect(calculate(`sqrt(${root}^2)`)).to.equal(root);
        expect(calculate(`sqrt(0.${root}^2)`)).to.equal(`0.${root}`);
      }
    }
  });

  it('is exact for decimals', () =>
    fc.assert(
      fc.property(integer, integer, fc.nat(40), (a, b, digits) => {
        const scaled = (value: bigint) => `(${value} / 10^${digits})`;
        expect(calculate(`(${scaled(a)} + ${scaled(b)}) * 10^${digits}`)).to.equal(String(a + b));
      }),
    ));

  it('raises to whole powers exactly', () =>
    fc.assert(
      fc.property(fc.integer({ min: -99, max: 99 }), fc.nat(300), (base, exponent) => {
        expect(calculate(`(${base})^${exponent}`)).to.equal(String(BigInt(base) ** BigInt(exponent)));
      }),
    ));

  it('answers or refuses anything within a moment', () => {
    const token = fc.constantFrom(
      '1',
      '9',
      '0',
      '.',
      '+',
      '-',
      '*',
      '/',
      '^',
      '%',
      '(',
      ')',
      'sqrt',
      'of',
      ' ',
      'e9',
      ',',
      'x',
      '99999999',
    );
    const junk = fc.oneof(
      fc.string({ unit: 'binary', maxLength: 60 }),
      fc.array(token, { maxLength: 120 }).map((t) => t.join('')),
    );
    fc.assert(
      fc.property(junk, (expression) => {
        const began = performance.now();
        try {
          expect(calculate(expression)).to.match(/^-?\d+(\.\d+)?(e[+-]\d+)?$/);
        } catch (error) {
          expect((error as Error).constructor, String(error)).to.equal(Error);
        }
        expect(performance.now() - began).to.be.lessThan(1_000);
      }),
      { numRuns: 1_000 },
    );
  });

  it('is quick with the slowest expressions that fit', () => {
    for (const expression of [
      '1.5^0.123+'.repeat(49),
      'sqrt(2)*'.repeat(62),
      '(9^999/7^999)+'.repeat(35),
      '1/3+'.repeat(124),
    ]) {
      const began = performance.now();
      calculate(`${expression}1`);
      expect(performance.now() - began, expression.slice(0, 20)).to.be.lessThan(2_000);
    }
  });
});
