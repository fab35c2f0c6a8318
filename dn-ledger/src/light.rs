//! A light client: what a node says about the state is checked instead of believed.
//!
//! It follows headers by their certificates, across changes of the validator set, and accepts what a node says about a record only
//! with a proof against a header it follows. Pure: headers, proofs and the time go in, a verdict comes out.
//!
//! - [`LightBlock`]: a header with its certificate and the sets behind its hashes;
//! - [`LightClient`]: the newest header that is trusted, and the rules by which another one follows;
//! - [`Subject`], [`ProofView`], [`Proven`]: what can be asked about, the answer with its proofs, and the state that is left when they hold.
//!
//! Believed without proof are only: that a list (a channel's lanes apart, whose sum is checked) leaves nothing out, and that there is no newer header.

mod block;
mod client;
mod inclusion;
mod proof;
mod subject;

pub use block::LightBlock;
pub use client::{LightClient, LightError, ParseTrustedError, TrustOptions, TrustedHash};
pub use inclusion::InclusionView;
pub use proof::{MAX_PROVEN_KEYS, ProofView, Proven, ProvenEntry, SubjectError, verify_receipt};
pub use subject::Subject;
