//! Devices of the same kind, told apart by where they are: each is chosen, measured and judged for itself.

/// A device's name with its place behind it, if that is not there already.
pub(crate) fn placed(name: &str, place: &str) -> String {
    let behind = format!(" ({place})");
    if place.is_empty() || name.ends_with(&behind) { name.to_owned() } else { name.to_owned() + &behind }
}

/// Gives devices that have the same name their place as a part of it, and a number where the place does not differ either.
pub(crate) fn tell_apart<T>(
    devices: &mut [T],
    name: impl Fn(&mut T) -> &mut String,
    place: impl Fn(&T) -> String,
) {
    let names: Vec<String> = devices.iter_mut().map(|device| name(device).clone()).collect();
    let mut given: Vec<String> = Vec::new();
    for (device, own) in devices.iter_mut().zip(&names) {
        let mut unlike = own.clone();
        if names.iter().filter(|other| *other == own).count() > 1 {
            let here = placed(own, &place(device));
            unlike.clone_from(&here);
            for number in 2.. {
                if !given.contains(&unlike) {
                    break;
                }
                unlike = format!("{here} #{number}");
            }
        }
        name(device).clone_from(&unlike);
        given.push(unlike);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(devices: &[(&str, &str)]) -> Vec<String> {
        let mut devices: Vec<(String, String)> =
            devices.iter().map(|(name, place)| ((*name).to_owned(), (*place).to_owned())).collect();
        tell_apart(&mut devices, |device| &mut device.0, |device| device.1.clone());
        devices.into_iter().map(|device| device.0).collect()
    }

    #[test]
    fn equal_names_get_their_places_and_others_stay() {
        assert_eq!(names(&[("a", "1"), ("b", "2"), ("a", "3")]), ["a (1)", "b", "a (3)"]);
        assert_eq!(names(&[("a", "1"), ("b", "1")]), ["a", "b"]);
        assert_eq!(names(&[("a", ""), ("a", ""), ("a", "")]), ["a", "a #2", "a #3"]);
        assert_eq!(names(&[("a", "1"), ("a", "1")]), ["a (1)", "a (1) #2"]);
        assert_eq!(names(&[]), Vec::<String>::new());
    }

    /// So a card's verdict stays its own when a second one is built in.
    #[test]
    fn a_place_is_named_once() {
        assert_eq!(placed("card", "0000:1b:00"), "card (0000:1b:00)");
        assert_eq!(placed("card (0000:1b:00)", "0000:1b:00"), "card (0000:1b:00)");
        assert_eq!(placed("card", ""), "card");
    }
}
