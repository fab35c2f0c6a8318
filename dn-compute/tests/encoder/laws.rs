//! What must hold of any encoder: nearness to real numbers, equal bits everywhere, neighbours without influence.

use std::num::NonZeroUsize;
use std::sync::OnceLock;

use dn_compute::encoder::trace::vector_leaf;
use dn_compute::encoder::{EmbedError, Embedding, Encoder, ONE, Pooling};
use dn_compute::{BackendKind, EngineOptions, Isa};
use dn_core::hash::{Hash32, blake3_256};
use proptest::prelude::*;
use safetensors::Dtype;

use super::oracle::{Oracle, cosine};
use super::random::{CONTEXT, Files, Rng, WIDTH, text, words};

const FIRST: &str =
    r#"{"word_embedding_dimension":48,"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}"#;

fn options(backend: BackendKind, isa: Isa, threads: usize) -> EngineOptions {
    EngineOptions { backend, isa, threads: NonZeroUsize::new(threads), ..EngineOptions::default() }
}

fn encoder() -> &'static Encoder {
    static ENCODER: OnceLock<Encoder> = OnceLock::new();
    ENCODER.get_or_init(|| Files::new(1).encoder(options(BackendKind::Cpu, Isa::Auto, 1)))
}

fn one(encoder: &Encoder, tokens: &[u32]) -> Embedding {
    encoder.embed(&[tokens]).unwrap().remove(0)
}

#[test]
fn embeddings_are_near_real_numbers() {
    for (pooling, dtype) in [(None, Dtype::F32), (Some(FIRST.to_owned()), Dtype::F16)] {
        let files = Files { pooling: pooling.clone(), dtype, ..Files::new(2) };
        let encoder = files.encoder(EngineOptions::default());
        let oracle = Oracle::new(files.config.as_bytes(), &files.safetensors(), pooling.is_none());
        let mut rng = Rng(3);
        let (mut sum, mut worst) = (0.0, 1f64);
        let lengths: Vec<usize> = (1..30).chain([40, 63, 64, 65, 80, CONTEXT]).collect();
        for length in &lengths {
            let tokens = text(&mut rng, *length);
            let ours: Vec<f64> = one(&encoder, &tokens).to_f32().into_iter().map(f64::from).collect();
            let c = cosine(&ours, &oracle.embed(&tokens));
            (sum, worst) = (sum + c, worst.min(c));
        }
        let mean = sum / lengths.len() as f64;
        println!("{dtype:?}: mean {mean}, worst {worst}");
        assert!(mean > 0.9998 && worst > 0.9995, "{dtype:?}: mean {mean}, worst {worst}");
    }
}

#[test]
fn the_same_bits_on_every_backend_instruction_set_and_number_of_threads() {
    let files = Files::new(4);
    let mut rng = Rng(5);
    let texts: Vec<Vec<u32>> = [1, 2, 3, 17, 64, 65, CONTEXT].map(|n| text(&mut rng, n)).into();
    let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
    let expected = files.encoder(options(BackendKind::Reference, Isa::Auto, 1)).embed(&texts).unwrap();
    for isa in Isa::ALL.into_iter().filter(|isa| isa.is_available()) {
        for threads in [1, 3] {
            let found = files.encoder(options(BackendKind::Cpu, isa, threads)).embed(&texts).unwrap();
            assert_eq!(found, expected, "{isa}, {threads} threads");
        }
    }
}

#[test]
fn identity_and_embeddings_are_golden() {
    let encoder = encoder();
    let embeddings = encoder.embed(&[&[2, 5, 40, 17, 3], &[2, 3]]).unwrap();
    let hash = |bytes: &[u8]| Hash32(blake3_256(&[bytes])).to_string();
    let found = [
        encoder.front().id().to_string(),
        hash(&embeddings[0].to_bytes()),
        embeddings[0].trace.root().to_string(),
        hash(&embeddings[1].to_bytes()),
    ];
    let expected = [
        "0x6a03ab1b3491f798bb33119916f495033b3967f4a0052105546953806bb19cbd",
        "0xd8100bf487f04b28b3b90d9bd737f796a57902cac3dfff14d03a2d6aa3b36ad1",
        "0xd0b26df23d7ca3b33676a9f0d756caae042597348bb1f5e239a2c546171aeba4",
        "0x8ad7d93decbd4b1e15010344b8ba68e0b5d587e54c7d269467b9589d78fef1f8",
    ];
    assert_eq!(found, expected);
}

#[test]
fn the_forms_of_an_embedding_agree() {
    let embedding = one(encoder(), &[2, 9, 9, 3]);
    let floats = embedding.to_f32();
    let length: f64 = floats.iter().map(|v| f64::from(*v).powi(2)).sum();
    assert!((length - 1.0).abs() < 1e-6, "{length}");
    for (v, f) in embedding.vector.iter().zip(&floats) {
        assert_eq!(f64::from(*v) / f64::from(ONE), f64::from(*f));
    }
    let bytes = embedding.to_bytes();
    assert_eq!((bytes.len(), &bytes[..4]), (4 * WIDTH, &embedding.vector[0].to_le_bytes()[..]));
}

#[test]
fn a_trace_binds_tokens_layers_and_the_vector() {
    let encoder = encoder();
    let tokens = [2, 30, 31, 32, 3];
    let honest = one(encoder, &tokens);
    let root = honest.trace.root();
    assert_eq!(honest.trace.leaves().len(), tokens.len() + 1);
    assert!(encoder.check(&tokens, &honest.vector, root).unwrap().holds());
    let mut vector = honest.vector.clone();
    vector[7] ^= 1;
    let check = encoder.check(&tokens, &vector, root).unwrap();
    assert!(!check.vector && check.trace && !check.holds());
    assert!(!encoder.check(&tokens, &honest.vector, Hash32([1; 32])).unwrap().trace);
    assert!(!encoder.check(&[2, 30, 31, 33, 3], &honest.vector, root).unwrap().holds());

    // The last leaf is the vector's, and only that one changes with it.
    let mut leaves = honest.trace.leaves().to_vec();
    assert_eq!(leaves[5], vector_leaf(Pooling::Mean, &honest.vector));
    leaves[5] = vector_leaf(Pooling::Mean, &vector);
    assert_eq!(honest.trace.first_difference(&leaves), Some(5));
    assert_eq!(honest.trace.first_difference(&leaves[..5]), Some(5));
    assert_eq!(honest.trace.first_difference(honest.trace.leaves()), None);
    assert_ne!(vector_leaf(Pooling::Mean, &vector), vector_leaf(Pooling::First, &vector));

    // Attention sees the whole text: the first position knows the last.
    let other = one(encoder, &[2, 30, 31, 32, 4]);
    assert_eq!(honest.trace.first_difference(other.trace.leaves()), Some(0));
    for leaf in 0..6u32 {
        let proof = honest.trace.prove(leaf).unwrap();
        proof.verify(root, &honest.trace.leaves()[leaf as usize].0).unwrap();
    }
    assert!(honest.trace.prove(6).is_none());
}

#[test]
fn texts_that_cannot_be_embedded_are_named() {
    let encoder = encoder();
    let long = vec![5; CONTEXT + 1];
    assert!(matches!(encoder.embed(&[&[2], &[]]), Err(EmbedError::Empty { text: 1 })));
    assert!(matches!(
        encoder.embed(&[&[2], &[3], &long]),
        Err(EmbedError::TooLong { text: 2, tokens: 97, context: 96 })
    ));
    let vocabulary = words().len() as u32;
    let found = encoder.embed(&[&[2, 3], &[2, vocabulary, 3]]);
    assert!(
        matches!(found, Err(EmbedError::TokenOutOfVocabulary { text: 1, position: 1, token, .. }) if token == vocabulary)
    );
    assert!(encoder.embed(&[]).unwrap().is_empty());
    let text = "the networks ".repeat(60);
    assert!(matches!(encoder.tokens(&text), Err(EmbedError::TooLong { .. })));
    let cut = encoder.tokens_cut(&text).unwrap();
    assert_eq!((cut.len(), cut[0], cut[CONTEXT - 1]), (CONTEXT, 2, 3));
}

#[test]
fn text_becomes_the_tokens_of_the_file_without_its_padding_and_cutting() {
    let id = |word: &str| words().iter().position(|w| w == word).unwrap() as u32;
    let found = encoder().tokens("The Networks, PROOFs! ☂ é人").unwrap();
    let pieces =
        ["[CLS]", "the", "net", "##work", "##s", ",", "proof", "##s", "!", "[UNK]", "e", "人", "[SEP]"];
    assert_eq!(found, pieces.map(id));
    assert_eq!(encoder().tokens("").unwrap(), [2, 3]);
    // What looks like a special token in a text is text.
    assert!(!encoder().tokens("[CLS]").unwrap()[1..].contains(&2));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn a_text_knows_nothing_of_its_neighbours(
        lengths in prop::collection::vec(1usize..CONTEXT, 1..24),
        seed in any::<u64>(),
        threads in 1usize..3,
    ) {
        let mut rng = Rng(seed);
        let texts: Vec<Vec<u32>> = lengths.iter().map(|n| text(&mut rng, *n)).collect();
        let texts: Vec<&[u32]> = texts.iter().map(Vec::as_slice).collect();
        static THREADED: OnceLock<Encoder> = OnceLock::new();
        let threaded = THREADED.get_or_init(|| Files::new(1).encoder(options(BackendKind::Cpu, Isa::Auto, 2)));
        let encoder = if threads == 1 { encoder() } else { threaded };
        let together = encoder.embed(&texts).unwrap();
        for (text, found) in texts.iter().zip(&together) {
            prop_assert_eq!(&one(encoder, text), found);
        }
    }
}
