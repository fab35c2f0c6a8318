//! Published policies that PoWR is compared with.

pub mod eigentrust;
pub mod eval;
pub mod median;
pub mod yuma;
