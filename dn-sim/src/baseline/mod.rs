//! Published policies that PoWR is compared with.

pub mod eigentrust;
pub mod median;
pub mod yuma;
