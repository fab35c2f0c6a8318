use super::*;

/// A chain of other rules goes on nowhere but in the software that wrote it.
#[test]
fn a_directory_of_other_rules_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let genesis = crate::chain::tests::genesis();
    for written in [None, Some(RULES + 1)] {
        let (store, _) = Store::open(dir.path(), &genesis).unwrap();
        let tx = store.db.begin_write().unwrap();
        {
            let mut state = tx.open_table(STATE).unwrap();
            let key = BASE_RULES.key(&0);
            match written {
                None => drop(state.remove(&*key).unwrap()),
                Some(rules) => drop(state.insert(&*key, rules.to_bytes().as_slice()).unwrap()),
            }
            // Their genesis may have another form too: it is not looked at.
            let mut meta = tx.open_table(META).unwrap();
            meta.insert(GENESIS_KEY, b"parameters of other rules".as_slice()).unwrap();
        }
        tx.commit().unwrap();
        drop(store);
        let error = Store::open(dir.path(), &genesis).unwrap_err();
        let told = error.to_string();
        let StoreError::Rules { expected, found, .. } = error else { panic!("{told}") };
        assert_eq!((expected, found), (RULES, written));
        assert!(told.contains("or an empty directory"), "{told}");
        std::fs::remove_file(dir.path().join(FILE_NAME)).unwrap();
    }
}
