//! The settings of a deployment, as a plugin reads them.
//!
//! Always holds: a setting that the plugin never asked for is an error that names those it did ask for, so that a
//! slip of the pen in a deployment is never silent.

use std::cell::RefCell;

/// Keys and values of a deployment.
#[derive(Debug)]
pub struct Settings {
    entries: Vec<(String, String)>,
    /// What `get` was asked for, which is what the plugin knows.
    known: RefCell<Vec<String>>,
}

impl Settings {
    pub(crate) fn new(entries: Vec<(String, String)>) -> Self {
        Self { entries, known: RefCell::default() }
    }

    /// The value of a setting that may be left out.
    pub fn get(&self, key: &str) -> Option<&str> {
        let mut known = self.known.borrow_mut();
        if !known.iter().any(|asked| asked == key) {
            known.push(key.to_owned());
        }
        self.entries.iter().find(|(given, _)| given == key).map(|(_, value)| value.as_str())
    }

    /// The value of a setting that must be there.
    ///
    /// # Errors
    /// Where it is missing or empty.
    pub fn required(&self, key: &str) -> Result<&str, String> {
        self.get(key).filter(|value| !value.trim().is_empty()).ok_or_else(|| match self.unknown() {
            Some(unknown) => format!("the setting `{key}` is required, and `{unknown}` is not known"),
            None => format!("the setting `{key}` is required"),
        })
    }

    /// The entries of a setting that must be there, written with commas between them; space around them is cut.
    ///
    /// # Errors
    /// Where it is missing, or one of its entries is empty.
    pub fn list(&self, key: &str) -> Result<Vec<&str>, String> {
        entries(key, self.required(key)?)
    }

    /// The entries of a setting that may be left out or empty, as those of [`Settings::list`].
    ///
    /// # Errors
    /// Where one of several entries is empty.
    pub fn optional_list(&self, key: &str) -> Result<Vec<&str>, String> {
        match self.get(key) {
            Some(value) if !value.trim().is_empty() => entries(key, value),
            Some(_) | None => Ok(Vec::new()),
        }
    }

    /// Refuses what was given but never asked for.
    pub(crate) fn refuse_unknown(&self) -> Result<(), String> {
        let Some(unknown) = self.unknown() else { return Ok(()) };
        let known = self.known.borrow();
        if known.is_empty() {
            return Err(format!("the setting `{unknown}` is not known: this plugin has no settings"));
        }
        Err(format!("the setting `{unknown}` is not known: this plugin knows `{}`", known.join("`, `")))
    }

    fn unknown(&self) -> Option<&str> {
        let known = self.known.borrow();
        self.entries.iter().map(|(key, _)| key.as_str()).find(|key| !known.iter().any(|asked| asked == key))
    }
}

fn entries<'a>(key: &str, value: &'a str) -> Result<Vec<&'a str>, String> {
    let entries: Vec<&str> = value.split(',').map(str::trim).collect();
    if entries.iter().any(|entry| entry.is_empty()) {
        return Err(format!("the setting `{key}` has an empty entry: write `a, b`"));
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(entries: &[(&str, &str)]) -> Settings {
        Settings::new(entries.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect())
    }

    #[test]
    fn a_list_is_cut_at_commas_and_trimmed() {
        assert_eq!(settings(&[("tables", "a, b ,c")]).list("tables").unwrap(), ["a", "b", "c"]);
    }

    #[test]
    fn an_empty_entry_of_a_list_is_refused() {
        assert!(settings(&[("tables", "a,,b")]).list("tables").unwrap_err().contains("empty entry"));
    }

    #[test]
    fn a_list_that_may_be_left_out_is_then_empty() {
        let settings = settings(&[("drop", " "), ("tables", "a, b"), ("columns", "a,")]);
        assert_eq!(settings.optional_list("none"), Ok(vec![]));
        assert_eq!(settings.optional_list("drop"), Ok(vec![]));
        assert_eq!(settings.optional_list("tables"), Ok(vec!["a", "b"]));
        assert!(settings.optional_list("columns").unwrap_err().contains("empty entry"));
    }

    #[test]
    fn a_missing_setting_names_the_slip_that_stands_in_its_place() {
        let error = settings(&[("tabels", "a")]).required("tables").unwrap_err();
        assert_eq!(error, "the setting `tables` is required, and `tabels` is not known");
    }

    #[test]
    fn a_setting_that_nobody_asked_for_is_refused_with_the_known_ones() {
        let settings = settings(&[("tables", "a"), ("colour", "red")]);
        assert!(settings.required("tables").is_ok());
        assert_eq!(settings.get("events"), None);
        let error = settings.refuse_unknown().unwrap_err();
        assert_eq!(error, "the setting `colour` is not known: this plugin knows `tables`, `events`");
    }

    #[test]
    fn settings_that_were_asked_for_are_not_refused() {
        let settings = settings(&[("tables", "a")]);
        assert!(settings.required("tables").is_ok());
        assert_eq!(settings.refuse_unknown(), Ok(()));
    }
}
