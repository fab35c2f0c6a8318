//! Published policies that PoWR is compared with.
