//! Distributions of the traits of a population.

use serde::{Deserialize, Deserializer, Serialize};

use super::{Problem, ScenarioError};
use crate::rng::Stream;

/// How a trait is distributed over a population. In a scenario either a number or a table, such as
/// `{ kind = "normal", mean = 0.9, deviation = 0.05 }`.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Distribution {
    /// Everybody has this value.
    Constant(f64),
    /// One of the shapes.
    Shape(Shape),
}

/// Shapes of distributions; every draw is cut to the trait's own range.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
pub enum Shape {
    /// Uniform between two values.
    Uniform {
        /// The least.
        min: f64,
        /// The most.
        max: f64,
    },
    /// Normal.
    Normal {
        /// The mean.
        mean: f64,
        /// The standard deviation.
        deviation: f64,
    },
    /// Log-normal: the logarithm is normal with this standard deviation.
    Lognormal {
        /// The median.
        median: f64,
        /// Standard deviation of the natural logarithm.
        sigma: f64,
    },
    /// Pareto: heavy tail above the least value.
    Pareto {
        /// The least.
        min: f64,
        /// The exponent; smaller is heavier.
        alpha: f64,
    },
    /// One of some values with given chances.
    Choice {
        /// The values.
        values: Vec<f64>,
        /// Their chances, which add up to 1.
        chances: Vec<f64>,
    },
}

impl<'de> Deserialize<'de> for Distribution {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        use serde::de::Error;
        match toml::Value::deserialize(d)? {
            toml::Value::Float(value) => Ok(Self::Constant(value)),
            // Exact up to 2^53, far over every range.
            toml::Value::Integer(value) => Ok(Self::Constant(value as f64)),
            table @ toml::Value::Table(_) => {
                Shape::deserialize(table).map(Self::Shape).map_err(|e| D::Error::custom(e.message()))
            }
            other => {
                let expected = "expected a number or a table such as { kind = \"normal\", mean = 0.9, deviation = 0.05 }";
                Err(D::Error::custom(format!("invalid type: {}, {expected}", other.type_str())))
            }
        }
    }
}

impl Distribution {
    /// A draw, cut to a range.
    pub fn draw(&self, stream: &mut Stream, (min, max): (f64, f64)) -> f64 {
        let value = match self {
            Self::Constant(value) => *value,
            Self::Shape(Shape::Uniform { min, max }) => min + (max - min) * stream.unit(),
            Self::Shape(Shape::Normal { mean, deviation }) => mean + deviation * stream.normal(),
            Self::Shape(Shape::Lognormal { median, sigma }) => median * libm::exp(sigma * stream.normal()),
            Self::Shape(Shape::Pareto { min, alpha }) => min * libm::pow(1.0 - stream.unit(), -1.0 / alpha),
            Self::Shape(Shape::Choice { values, chances }) => {
                let mut left = stream.unit();
                let at = chances.iter().position(|c| {
                    left -= c;
                    left < 0.0
                });
                // Rounding may leave a sliver after the last.
                values[at.unwrap_or(values.len() - 1)]
            }
        };
        value.clamp(min, max)
    }

    /// Checks that draws are possible and that the values of the distribution are of the trait's range.
    pub(crate) fn check(&self, path: &str, (min, max): (f64, f64)) -> Result<(), ScenarioError> {
        let inside = |name: &str, value: f64, min: f64, max: f64| {
            let path = if name.is_empty() { path.to_owned() } else { format!("{path}.{name}") };
            super::number(&path, value, min, max)
        };
        let positive = (f64::MIN_POSITIVE, 1e6);
        match self {
            Self::Constant(value) => inside("", *value, min, max),
            Self::Shape(Shape::Uniform { min: low, max: high }) => {
                inside("min", *low, min, max)?;
                inside("max", *high, *low, max)
            }
            Self::Shape(Shape::Normal { mean, deviation }) => {
                inside("mean", *mean, min, max)?;
                inside("deviation", *deviation, 0.0, max - min)
            }
            Self::Shape(Shape::Lognormal { median, sigma }) => {
                inside("median", *median, min.max(positive.0), max)?;
                inside("sigma", *sigma, 0.0, 5.0)
            }
            Self::Shape(Shape::Pareto { min: low, alpha }) => {
                inside("min", *low, min.max(positive.0), max)?;
                inside("alpha", *alpha, 0.1, 100.0)
            }
            Self::Shape(Shape::Choice { values, chances }) => {
                let error = |problem| ScenarioError::Invalid { path: path.to_owned(), problem };
                if values.is_empty() || values.len() != chances.len() || values.len() > 1000 {
                    return Err(error(Problem::Pairs { values: values.len(), chances: chances.len() }));
                }
                for (i, (value, chance)) in values.iter().zip(chances).enumerate() {
                    inside(&format!("values[{i}]"), *value, min, max)?;
                    inside(&format!("chances[{i}]"), *chance, 0.0, 1.0)?;
                }
                let sum: f64 = chances.iter().sum();
                if (sum - 1.0).abs() > 1e-9 {
                    return Err(error(Problem::Chances { sum }));
                }
                Ok(())
            }
        }
    }
}
