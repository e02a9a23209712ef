//! Money: whole cents of one currency, and arithmetic that notices when it does not fit.
//!
//! There is no rounding anywhere, because there is nothing to round: prices are whole cents and
//! only whole quantities multiply them.
//!
//! ```
//! use tradewind_order::money::{Currency, Money, MoneyError};
//!
//! let price = Money::new(14_400, Currency::parse("CNY")?)?;
//! let basket = price.times(2)?.plus(price)?;
//! assert_eq!(basket.to_string(), "CNY 432.00");
//! # Ok::<(), MoneyError>(())
//! ```

use std::fmt;

/// A currency by its ISO 4217 code.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Currency([u8; 3]);

/// An amount, never negative.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Money {
    cents: i64,
    currency: Currency,
}

/// Why there is no such amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum MoneyError {
    /// An amount below zero was given.
    #[error("an amount of money is never negative")]
    Negative,
    /// The result is larger than any amount that can be kept.
    #[error("the amount of money is too large")]
    Overflow,
    /// The two amounts are of different currencies.
    #[error("amounts of {0} and {1} cannot be added")]
    Mixed(Currency, Currency),
    /// The text is not the code of a currency.
    #[error("a currency has three upper-case letters")]
    NoCurrency,
}

impl Currency {
    /// Reads a code of three upper-case letters.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn parse(text: &str) -> Result<Self, MoneyError> {
        match <[u8; 3]>::try_from(text.as_bytes()) {
            Ok(code) if code.iter().all(u8::is_ascii_uppercase) => Ok(Self(code)),
            _ => Err(MoneyError::NoCurrency),
        }
    }
}

impl fmt::Display for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|it| fmt::Write::write_char(f, char::from(*it)))
    }
}

impl fmt::Debug for Currency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Money {
    /// An amount of `cents`.
    ///
    /// # Errors
    /// When it is negative.
    pub const fn new(cents: i64, currency: Currency) -> Result<Self, MoneyError> {
        if cents < 0 { Err(MoneyError::Negative) } else { Ok(Self { cents, currency }) }
    }

    /// Nothing, in a currency.
    #[must_use]
    pub const fn zero(currency: Currency) -> Self {
        Self { cents: 0, currency }
    }

    /// The amount in the smallest unit of the currency.
    #[must_use]
    pub const fn cents(self) -> i64 {
        self.cents
    }

    /// The currency.
    #[must_use]
    pub const fn currency(self) -> Currency {
        self.currency
    }

    /// The sum.
    ///
    /// # Errors
    /// When the currencies differ or the sum is too large.
    pub fn plus(self, other: Self) -> Result<Self, MoneyError> {
        if self.currency != other.currency {
            return Err(MoneyError::Mixed(self.currency, other.currency));
        }
        let cents = self.cents.checked_add(other.cents).ok_or(MoneyError::Overflow)?;
        Ok(Self { cents, ..self })
    }

    /// `count` times the amount.
    ///
    /// # Errors
    /// When the product is too large.
    pub fn times(self, count: u32) -> Result<Self, MoneyError> {
        let cents = self.cents.checked_mul(i64::from(count)).ok_or(MoneyError::Overflow)?;
        Ok(Self { cents, ..self })
    }
}

impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}.{:02}", self.currency, self.cents / 100, self.cents % 100)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cny(cents: i64) -> Money {
        Money::new(cents, Currency::parse("CNY").unwrap()).unwrap()
    }

    #[test]
    fn what_does_not_fit_is_an_error_and_never_wraps() {
        assert_eq!(cny(i64::MAX).plus(cny(1)), Err(MoneyError::Overflow));
        assert_eq!(cny(i64::MAX / 2).times(3), Err(MoneyError::Overflow));
        assert_eq!(Money::new(-1, cny(0).currency()), Err(MoneyError::Negative));
    }

    #[test]
    fn currencies_do_not_mix() {
        let eur = Money::zero(Currency::parse("EUR").unwrap());
        assert!(matches!(cny(1).plus(eur), Err(MoneyError::Mixed(..))));
        for bad in ["", "CN", "cny", "CNYX", "C1Y", "¥¥"] {
            assert_eq!(Currency::parse(bad), Err(MoneyError::NoCurrency), "{bad}");
        }
    }

    #[test]
    fn an_amount_reads_as_people_write_it() {
        assert_eq!(cny(123_405).to_string(), "CNY 1234.05");
    }

    proptest! {
        #[test]
        fn times_is_repeated_addition(cents in 0_i64..1_000_000, count in 0_u32..1000) {
            let sum = (0..count).try_fold(cny(0), |sum, _| sum.plus(cny(cents)));
            prop_assert_eq!(cny(cents).times(count), sum);
        }
    }
}
