use super::*;

fn choose(rates: &[Option<u64>], right: &[usize]) -> (usize, Vec<usize>) {
    let mut asked = Vec::new();
    let taken = fastest(rates, |index| {
        asked.push(index);
        right.contains(&index)
    });
    (taken, asked)
}

#[test]
fn the_fastest_that_is_right_is_taken() {
    let rates = [Some(10), Some(30), Some(20), Some(5)];
    assert_eq!(choose(&rates, &[1, 2, 3]), (1, vec![1]));
    assert_eq!(choose(&rates, &[2, 3]), (2, vec![1, 2]));
    // Slower than the CPU it is neither taken nor compared.
    assert_eq!(choose(&rates, &[3]), (0, vec![1, 2]));
    assert_eq!(choose(&[Some(10), Some(10)], &[1]), (0, vec![]));
    // What could not be measured is not taken; of equal ones the first is: CUDA comes before others.
    assert_eq!(choose(&[Some(10), None, Some(11), Some(11)], &[1, 2, 3]), (2, vec![2]));
    assert_eq!(choose(&[Some(10)], &[]), (0, vec![]));
    assert_eq!(choose(&[None, Some(1)], &[1]), (1, vec![1]));
    assert_eq!(choose(&[], &[]), (0, vec![]));
}

#[test]
fn what_is_taken_is_in_the_options() {
    let mut survey = Survey { candidates: vec![cpu("scalar", Some(1))], absent: Vec::new(), taken: 0 };
    let device = Candidate { backend: BackendKind::Wgpu, name: "a card".into(), ..cpu("vulkan", Some(2)) };
    survey.candidates.push(device);
    let asked = EngineOptions { device_memory: Some(7), ..EngineOptions::default() };
    assert_eq!(survey.apply(asked), asked);
    survey.taken = 1;
    assert!(survey.is_taken(1) && !survey.is_taken(0));
    let expected = EngineOptions { backend: BackendKind::Wgpu, adapter: Some("a card"), ..asked };
    assert_eq!(survey.apply(asked), expected);
}

/// On whatever this machine has: what is taken is not slower than the CPU, and the second look is the first one's answer.
#[test]
fn a_machine_is_looked_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let options = EngineOptions { cache: Some(&*dir.path().to_owned().leak()), ..EngineOptions::default() };
    let first = Survey::of(&options, Depth::Choose);
    let taken = first.taken();
    assert!(taken.backend == BackendKind::Cpu || taken.weights_per_s > first.candidates[0].weights_per_s);
    assert!(matches!(taken.state, State::Right), "{taken:?}");
    assert_eq!(first.candidates[0].backend, BackendKind::Cpu);
    for (backend, error) in &first.absent {
        let text = error.to_string();
        assert!(!backend.is_built() || text.contains("driver") || text.contains("NV"), "{text}");
    }
    let files = || {
        let entries = std::fs::read_dir(dir.path()).unwrap();
        let mut files: Vec<_> = entries.map(|entry| std::fs::read(entry.unwrap().path()).unwrap()).collect();
        files.sort();
        files
    };
    let kept = files();
    let has_devices = first.candidates.len() > 1;
    assert_eq!(kept.is_empty(), !has_devices, "without a device nothing is measured");
    let second = Survey::of(&options, Depth::Choose);
    let rates = |survey: &Survey| {
        survey.candidates.iter().map(|c| (c.name.clone(), c.weights_per_s)).collect::<Vec<_>>()
    };
    assert_eq!(rates(&second), rates(&first), "to the digit, so nothing was measured");
    assert_eq!((second.taken, files()), (first.taken, kept));
}
