//! Maps whose keys are no text, as JSON: a list of pairs of key and value.

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Writes a map as a list of pairs, in its order.
pub(crate) fn serialize<'a, K, V, M, S>(map: &'a M, serializer: S) -> Result<S::Ok, S::Error>
where
    K: Serialize + 'a,
    V: Serialize + 'a,
    &'a M: IntoIterator<Item = (&'a K, &'a V)>,
    S: Serializer,
{
    serializer.collect_seq(map)
}

/// Reads a map from a list of pairs.
pub(crate) fn deserialize<'de, K, V, M, D>(deserializer: D) -> Result<M, D::Error>
where
    K: Deserialize<'de>,
    V: Deserialize<'de>,
    M: FromIterator<(K, V)>,
    D: Deserializer<'de>,
{
    Ok(Vec::<(K, V)>::deserialize(deserializer)?.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Example(#[serde(with = "super")] BTreeMap<(u8, bool), String>);

    #[test]
    fn a_map_whose_keys_are_no_text_is_read_as_it_was_written() {
        let map = BTreeMap::from([((1, true), "a".to_owned()), ((1, false), "b".to_owned())]);
        let text = serde_json::to_string(&Example(map)).unwrap();
        assert_eq!(text, r#"[[[1,false],"b"],[[1,true],"a"]]"#);
        let read: Example = serde_json::from_str(&text).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), text);
        assert!(serde_json::from_str::<Example>(r#"{"1":"a"}"#).is_err());
    }
}
