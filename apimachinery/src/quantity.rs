//! Amounts of resources: `500m`, `1536Mi`, `1e3`.
//!
//! A quantity is a decimal number and the family of suffixes it was written in. Parsing and the canonical form follow upstream's
//! `resource.Quantity` to the letter, because the canonical form is what is stored and sent.

use std::cmp::Ordering;
use std::fmt;
use std::str::FromStr;

/// The suffixes a quantity is written with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `12e6`
    DecimalExponent,
    /// `12Mi`, powers of 1024
    BinarySi,
    /// `12M`, powers of 1000
    DecimalSi,
}

/// Why a string is not a quantity. The words are upstream's: clients show them, some match them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    #[error("quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'")]
    Format,
    #[error("unable to parse quantity's suffix")]
    Suffix,
}

/// A decimal amount, `mantissa × 10^scale`, never finer than 10⁻⁹ (finer input is rounded away from zero).
///
/// Equality and order are those of the amount: `1000m == 1`. Amounts of more than 38 digits lose their last ones.
#[derive(Clone, Debug)]
pub struct Quantity {
    mantissa: i128,
    scale: i32,
    format: Format,
    /// What was parsed, kept when upstream would send it back as it came (`1.500` stays, `1.5` becomes `1500m`).
    text: Option<Box<str>>,
}

/// Power of 1000 of each decimal suffix, `n` (10⁻⁹) to `E` (10¹⁸).
const DECIMAL_SUFFIXES: [(&str, i32); 10] =
    [("n", -9), ("u", -6), ("m", -3), ("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];
/// Power of 2 of each binary suffix.
const BINARY_SUFFIXES: [(&str, i32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];

const NANO: i32 = -9;
/// Digits an i128 always holds.
const DIGITS_MAX: usize = 38;
/// Digits that can still be multiplied by 2⁶⁰.
const BINARY_DIGITS_MAX: usize = 19;
/// Digits that upstream reads into an int64 without looking further.
const FAST_DIGITS_MAX: usize = 18;

impl Quantity {
    pub const ZERO: Quantity = Quantity { mantissa: 0, scale: 0, format: Format::DecimalSi, text: None };

    /// Reads a quantity.
    pub fn parse(text: &str) -> Result<Quantity, QuantityError> {
        if text.is_empty() {
            return Err(QuantityError::Format);
        }
        let parts = Parts::scan(text)?;
        let (format, exponent) = parse_suffix(parts.suffix)?;
        let (mantissa, scale) = match format {
            Format::BinarySi => parts.binary(exponent as u32),
            _ => parts.decimal(exponent),
        };
        let quantity =
            Quantity { mantissa: if parts.negative { -mantissa } else { mantissa }, scale, format, text: None };
        let keep = parts.is_kept_as_written(format, exponent);
        let below_one = format == Format::BinarySi && !keep && quantity.mantissa != 0 && quantity.abs_below_one();
        Ok(Quantity {
            format: if below_one { Format::DecimalSi } else { format },
            text: keep.then(|| text.into()),
            ..quantity
        })
    }

    /// A whole amount.
    pub fn new(value: i64, format: Format) -> Quantity {
        Quantity { mantissa: value.into(), scale: 0, format, text: None }
    }

    /// An amount in thousandths.
    pub fn from_milli(value: i64, format: Format) -> Quantity {
        Quantity { mantissa: value.into(), scale: -3, format, text: None }
    }

    pub fn format(&self) -> Format {
        self.format
    }

    pub fn is_zero(&self) -> bool {
        self.mantissa == 0
    }

    /// -1, 0 or 1.
    pub fn sign(&self) -> i32 {
        self.mantissa.signum() as i32
    }

    /// The amount as a whole number, rounded away from zero and bounded to 64 bits.
    pub fn value(&self) -> i64 {
        self.scaled_value(0)
    }

    /// The amount in thousandths, rounded away from zero and bounded to 64 bits.
    pub fn milli_value(&self) -> i64 {
        self.scaled_value(-3)
    }

    /// The amount in units of 10^scale, rounded away from zero and bounded to 64 bits.
    pub fn scaled_value(&self, scale: i32) -> i64 {
        let value = if self.scale < scale {
            divide_up(self.mantissa, scale.saturating_sub(self.scale) as u32)
        } else {
            multiply(self.mantissa, self.scale.saturating_sub(scale) as u32).unwrap_or(saturated(self.mantissa))
        };
        value.clamp(i64::MIN.into(), i64::MAX.into()) as i64
    }

    /// The whole amount, if it is one.
    pub fn as_i64(&self) -> Option<i64> {
        i64::try_from(self.exact(0)?).ok()
    }

    /// The nearest float.
    pub fn as_f64(&self) -> f64 {
        self.mantissa as f64 * 10f64.powi(self.scale)
    }

    /// The sum; in the format of `self` unless that is zero.
    pub fn add(&self, other: &Quantity) -> Quantity {
        let format = if self.is_zero() { other.format } else { self.format };
        let scale = self.scale.min(other.scale);
        match (self.exact(scale), other.exact(scale)) {
            (Some(a), Some(b)) => Quantity { mantissa: a.saturating_add(b), scale, format, text: None },
            // So far apart that the small one does not show in the sum.
            (None, _) => Quantity { format, text: None, ..self.clone() },
            (_, None) => Quantity { format, text: None, ..other.clone() },
        }
    }

    /// The difference; in the format of `self` unless that is zero.
    pub fn sub(&self, other: &Quantity) -> Quantity {
        self.add(&other.neg())
    }

    pub fn neg(&self) -> Quantity {
        Quantity { mantissa: -self.mantissa, text: None, ..self.clone() }
    }

    pub fn mul(&self, factor: i64) -> Quantity {
        Quantity { mantissa: self.mantissa.saturating_mul(factor.into()), text: None, ..self.clone() }
    }

    /// The mantissa at a scale, where that needs no rounding and fits.
    fn exact(&self, scale: i32) -> Option<i128> {
        if self.scale >= scale {
            return multiply(self.mantissa, self.scale.checked_sub(scale)? as u32);
        }
        let divisor = 10i128.checked_pow((scale - self.scale) as u32)?;
        (self.mantissa % divisor == 0).then_some(self.mantissa / divisor)
    }

    fn abs_below_one(&self) -> bool {
        self.scale < 0 && 10i128.checked_pow(-self.scale as u32).is_none_or(|one| self.mantissa.abs() < one)
    }

    fn canonical(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.mantissa == 0 {
            return f.write_str("0");
        }
        if self.format == Format::BinarySi
            && let Some(whole) = self.exact(0).filter(|v| v.abs() >= 1024)
        {
            let (mut number, mut suffix) = (whole, "");
            for (name, _) in BINARY_SUFFIXES {
                if number % 1024 != 0 {
                    break;
                }
                (number, suffix) = (number / 1024, name);
            }
            return write!(f, "{number}{suffix}");
        }
        let (mut number, mut exponent) = (self.mantissa, self.scale);
        while number % 10 == 0 {
            (number, exponent) = (number / 10, exponent + 1);
        }
        let pad = exponent.rem_euclid(3);
        exponent -= pad;
        let zeros = &"00"[..pad as usize];
        match self.format {
            Format::DecimalExponent if exponent == 0 => write!(f, "{number}{zeros}"),
            Format::DecimalExponent => write!(f, "{number}{zeros}e{exponent}"),
            // Beyond `E` there is no suffix: zeros stand in for it.
            _ => {
                let (suffix, at) =
                    DECIMAL_SUFFIXES.iter().rev().find(|(_, at)| *at <= exponent).unwrap_or(&DECIMAL_SUFFIXES[0]);
                let width = (exponent - at).clamp(0, DIGITS_MAX as i32) as usize;
                write!(f, "{number}{zeros}{:0<width$}{suffix}", "")
            }
        }
    }
}

/// A quantity's text taken apart.
struct Parts<'a> {
    negative: bool,
    /// Digits before the point, without leading zeros; `0` where none are left.
    whole: &'a str,
    fraction: &'a str,
    suffix: &'a str,
}

impl<'a> Parts<'a> {
    fn scan(text: &'a str) -> Result<Self, QuantityError> {
        let negative = text.starts_with('-');
        let rest = text.strip_prefix(['-', '+']).unwrap_or(text).trim_start_matches('0');
        let split = |s: &'a str| s.split_at(s.find(|c: char| !c.is_ascii_digit()).unwrap_or(s.len()));
        let (whole, rest) = split(rest);
        let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), split);
        let exponent = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        if !digits.bytes().all(|b| b.is_ascii_digit()) {
            return Err(QuantityError::Format);
        }
        Ok(Parts { negative, whole: if whole.is_empty() { "0" } else { whole }, fraction, suffix })
    }

    /// The digits as a number of at most `digits_max` digits and its power of ten; what is cut off rounds it up.
    fn mantissa(&self, digits_max: usize) -> (i128, i32) {
        let fraction = self.fraction.trim_end_matches('0');
        let digits = || self.whole.bytes().chain(fraction.bytes()).skip_while(|b| *b == b'0');
        let cut = digits().count().saturating_sub(digits_max);
        let number = digits().take(digits_max).fold(0i128, |n, b| n * 10 + i128::from(b - b'0'));
        let rounding = digits().skip(digits_max).any(|b| b != b'0');
        (number + i128::from(rounding), cut as i32 - fraction.len() as i32)
    }

    fn decimal(&self, exponent: i32) -> (i128, i32) {
        let (number, scale) = self.mantissa(DIGITS_MAX);
        round_to_nano(number, scale.saturating_add(exponent))
    }

    fn binary(&self, exponent: u32) -> (i128, i32) {
        let (number, scale) = self.mantissa(BINARY_DIGITS_MAX);
        let (number, scale) = round_to_nano(number << exponent, scale);
        // Upstream caps binary amounts at the largest int64.
        let cap = i128::from(i64::MAX);
        let whole = if scale < 0 {
            divide_up(number, -scale as u32)
        } else {
            multiply(number, scale as u32).unwrap_or(i128::MAX)
        };
        if whole > cap { (cap, 0) } else { (number, scale) }
    }

    /// Whether upstream, having read this into an int64, takes the text for canonical without working the form out.
    fn is_kept_as_written(&self, format: Format, exponent: i32) -> bool {
        let digits = self.whole.len() + self.fraction.len();
        match format {
            Format::BinarySi => {
                let fits = self.whole.len() as i32 + exponent * 3 / 10 < 15;
                fits && self.fraction.is_empty()
                    && self.whole.as_bytes() != b"0"
                    && self.mantissa(DIGITS_MAX).0 & 7 != 0
            }
            _ => {
                let scale = exponent.saturating_sub(self.fraction.len() as i32);
                let tail = format!("{}{}", self.whole, self.fraction);
                digits <= FAST_DIGITS_MAX
                    && scale >= NANO
                    && scale % 3 == 0
                    && !tail.ends_with("000")
                    && !tail.starts_with('0')
            }
        }
    }
}

fn parse_suffix(suffix: &str) -> Result<(Format, i32), QuantityError> {
    if let Some((_, exponent)) = DECIMAL_SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        return Ok((Format::DecimalSi, *exponent));
    }
    if let Some((_, exponent)) = BINARY_SUFFIXES.iter().find(|(name, _)| *name == suffix) {
        return Ok((Format::BinarySi, *exponent));
    }
    let exponent = suffix.strip_prefix(['e', 'E']).ok_or(QuantityError::Suffix)?;
    let exponent: i64 = exponent.parse().map_err(|_| QuantityError::Suffix)?;
    // Room to add the scale of the digits without overflow.
    const LIMIT: i64 = i32::MAX as i64 / 4;
    Ok((Format::DecimalExponent, exponent.clamp(-LIMIT, LIMIT) as i32))
}

fn multiply(mantissa: i128, power: u32) -> Option<i128> {
    if mantissa == 0 {
        return Some(0);
    }
    10i128.checked_pow(power).and_then(|factor| mantissa.checked_mul(factor))
}

/// Division by a power of ten, rounded away from zero.
fn divide_up(mantissa: i128, power: u32) -> i128 {
    match 10i128.checked_pow(power) {
        Some(divisor) if mantissa % divisor == 0 => mantissa / divisor,
        Some(divisor) => mantissa / divisor + mantissa.signum(),
        None => mantissa.signum(),
    }
}

fn saturated(mantissa: i128) -> i128 {
    if mantissa < 0 { i128::MIN } else { i128::MAX }
}

fn round_to_nano(number: i128, scale: i32) -> (i128, i32) {
    if number == 0 {
        (0, 0)
    } else if scale < NANO {
        (divide_up(number, (NANO - scale) as u32), NANO)
    } else {
        (number, scale)
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.text {
            Some(text) => f.write_str(text),
            None => self.canonical(f),
        }
    }
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        Quantity::parse(text)
    }
}

impl Ord for Quantity {
    fn cmp(&self, other: &Self) -> Ordering {
        if self.sign() != other.sign() {
            return self.sign().cmp(&other.sign());
        }
        let scale = self.scale.min(other.scale);
        let align = |q: &Quantity| q.exact(scale).unwrap_or(saturated(q.mantissa));
        align(self).cmp(&align(other))
    }
}

impl PartialOrd for Quantity {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Quantity {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Quantity {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_form_is_upstreams() {
        for (text, canonical) in [
            ("0", "0"),
            ("1000m", "1"),
            ("0.1", "100m"),
            ("1.5", "1500m"),
            ("100m", "100m"),
            ("1024Ki", "1Mi"),
            ("1.5Gi", "1536Mi"),
            ("1500Ki", "1500Ki"),
            ("512", "512"),
            ("1024", "1024"),
            ("1000", "1k"),
            ("1000000", "1M"),
            ("123000k", "123M"),
            ("1e3", "1e3"),
            ("1E3", "1E3"),
            ("10e2", "1e3"),
            ("12e1", "120"),
            ("0.5Ki", "512"),
            ("0.0001", "100u"),
            ("1n", "1n"),
            ("0.1n", "1n"),
            ("-0.1n", "-1n"),
            ("0.5n", "1n"),
            (".5", "500m"),
            ("5.", "5."),
            ("-500m", "-500m"),
            ("-1024Ki", "-1Mi"),
            ("0Gi", "0"),
            ("00", "0"),
            ("1.1Ki", "1126400m"),
            ("100Ei", "9223372036854775807"),
            ("0.25Mi", "256Ki"),
            ("12345678901234567890", "12345678901234567890"),
            ("1e30", "1e30"),
            ("1.500", "1.500"),
        ] {
            assert_eq!(Quantity::parse(text).unwrap().to_string(), canonical, "{text}");
        }
    }

    #[test]
    fn what_is_no_quantity_says_why() {
        for (text, error) in [
            ("", QuantityError::Format),
            ("abc", QuantityError::Format),
            ("1 Gi", QuantityError::Format),
            ("1.2.3", QuantityError::Format),
            ("1Gb", QuantityError::Format),
            ("1GG", QuantityError::Suffix),
            ("1ki", QuantityError::Suffix),
            ("1e", QuantityError::Suffix),
        ] {
            assert_eq!(Quantity::parse(text).unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn order_is_that_of_the_amount() {
        let q = |s| Quantity::parse(s).unwrap();
        assert_eq!(q("1000m"), q("1"));
        assert_eq!(q("1Ki"), q("1024"));
        assert!(q("1Gi") > q("1G"));
        assert!(q("-1") < q("1n"));
        assert!(q("1e1000") > q("1E"));
    }

    #[test]
    fn sums_keep_the_format_of_the_left_side() {
        let q = |s| Quantity::parse(s).unwrap();
        assert_eq!(q("1Gi").add(&q("512Mi")).to_string(), "1536Mi");
        assert_eq!(q("0").add(&q("512Mi")).to_string(), "512Mi");
        assert_eq!(q("1").sub(&q("250m")).to_string(), "750m");
        assert_eq!(q("100m").mul(20).to_string(), "2");
    }

    #[test]
    fn whole_values_round_away_from_zero() {
        for (text, value, milli) in [("1500m", 2, 1500), ("-1500m", -2, -1500), ("1n", 1, 1), ("1Ki", 1024, 1_024_000)]
        {
            let q = Quantity::parse(text).unwrap();
            assert_eq!((q.value(), q.milli_value()), (value, milli), "{text}");
        }
        assert_eq!(Quantity::parse("1e30").unwrap().value(), i64::MAX);
        assert_eq!(Quantity::parse("1500m").unwrap().as_i64(), None);
    }
}
