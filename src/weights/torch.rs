//! Checkpoints written by `torch.save`: a zip archive with one pickle and the storages it refers to.

use std::collections::{BTreeMap, HashMap};

use serde_json::{Map, Number};

use super::archive::{self, Member};
use super::entry::{Contents, Entry, ReadError};
use super::pickle::{Id, Parsed, TensorView, Value};
use super::store::Store;
use super::unpickle::Pickle;

/// Size limit of the pickle. A checkpoint of ten thousand tensors has a pickle of one or two MB, and decoding takes
/// forty times as much memory.
const MAX_PICKLE: u64 = 16 << 20;
/// Limits on the contents of a checkpoint: shared objects could otherwise be unfolded without end.
const MAX_DEPTH: usize = 16;
const MAX_VALUES: usize = 1 << 18;

/// Reads the directory of the checkpoint `file`, which is `file_len` bytes long.
pub(super) fn read(file: &Store, file_len: u64) -> Result<Contents, ReadError> {
    let members = archive::members(file, file_len)?;
    let folders = members.keys().filter_map(|name| name.strip_suffix("data.pkl"));
    let mut pickles = folders.filter(|folder| folder.is_empty() || folder.ends_with('/'));
    let root = match (pickles.next(), pickles.next()) {
        (Some(root), None) => root,
        (None, _) => return Err("a zip archive without `data.pkl`".into()),
        (Some(_), Some(_)) => return Err("a zip archive with more than one `data.pkl`".into()),
    };
    let text = |name: &str, limit: u64| match members.get(&format!("{root}{name}")) {
        Some(member) if member.len <= limit => Ok(Some(file.bytes(member.start, member.len as usize)?)),
        Some(member) => Err(ReadError::Found(format!("`{name}` of {} bytes", member.len))),
        None => Ok(None),
    };
    if text("byteorder", 16)?.is_some_and(|order| order != b"little") {
        return Err("numbers in big-endian byte order".into());
    }
    let pickle = text("data.pkl", MAX_PICKLE)?.unwrap_or_default();
    let pickle = Pickle::decode(&pickle).map_err(ReadError::Found)?;
    let mut reader = Reader { pickle: &pickle, members: &members, root, left: MAX_VALUES };
    reader.contents().map_err(ReadError::Found)
}

struct Reader<'a> {
    pickle: &'a Pickle,
    members: &'a HashMap<String, Member>,
    /// The folder inside the archive: "archive/".
    root: &'a str,
    /// How many more values may be unfolded.
    left: usize,
}

impl Reader<'_> {
    fn contents(&mut self) -> Parsed<Contents> {
        let top = self.dictionary(self.pickle.root).ok_or("something other than a dictionary of tensors")?;
        let mut contents = Contents::default();
        let mut groups = Vec::new();
        for (name, id) in top {
            if self.holds_tensor(id, 0)? {
                groups.push((name, id));
            } else {
                let value = self.json(id, 0)?;
                contents.metadata.insert(name, value);
            }
        }
        // {cfg, model}: a configuration and the state of the single model that it describes.
        let configured = contents.metadata.contains_key("cfg");
        for (name, id) in groups {
            let prefix = if configured && name == "model" { "" } else { name.as_str() };
            self.flatten(prefix, id, 0, &mut contents.entries)?;
        }
        Ok(contents)
    }

    /// The keys, as text, and the values of a dictionary; `None` for anything else.
    fn dictionary(&self, id: Id) -> Option<Vec<(String, Id)>> {
        let Value::Dict(items) = self.pickle.value(id) else { return None };
        let key = |id| match self.pickle.value(id) {
            Value::Text(text) => Some(text.to_string()),
            Value::Int(int) => Some(int.to_string()),
            _ => None,
        };
        items.iter().map(|&(name, value)| Some((key(name)?, value))).collect()
    }

    fn children(&self, id: Id) -> Vec<Id> {
        match self.pickle.value(id) {
            Value::Dict(items) => items.iter().map(|&(_, value)| value).collect(),
            Value::List(items) | Value::Tuple(items) => items.clone(),
            _ => Vec::new(),
        }
    }

    /// Counts one value and one level, so that unfolding terminates.
    fn step(&mut self, depth: usize) -> Parsed<()> {
        self.left = self.left.checked_sub(1).ok_or("more values than any checkpoint holds")?;
        if depth > MAX_DEPTH { Err("dictionaries nested without end".into()) } else { Ok(()) }
    }

    fn holds_tensor(&mut self, id: Id, depth: usize) -> Parsed<bool> {
        self.step(depth)?;
        if matches!(self.pickle.value(id), Value::Tensor(_)) {
            return Ok(true);
        }
        for child in self.children(id) {
            if self.holds_tensor(child, depth + 1)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Adds the tensors below `id` under dotted names.
    fn flatten(&mut self, name: &str, id: Id, depth: usize, to: &mut BTreeMap<String, Entry>) -> Parsed<()> {
        self.step(depth)?;
        if let Value::Tensor(view) = self.pickle.value(id) {
            let entry = self.entry(view).map_err(|found| format!("`{name}`: {found}"))?;
            to.insert(name.to_owned(), entry);
            return Ok(());
        }
        let items =
            self.dictionary(id).ok_or_else(|| format!("`{name}`, which is neither a tensor nor a dictionary"))?;
        for (key, value) in items {
            let name = if name.is_empty() { key } else { format!("{name}.{key}") };
            self.flatten(&name, value, depth + 1, to)?;
        }
        Ok(())
    }

    /// The position of the elements of `view` in the file, with all bounds checked.
    fn entry(&self, view: &TensorView) -> Parsed<Entry> {
        let storage = &*view.storage;
        let member = self.members.get(&format!("{}data/{}", self.root, storage.key));
        let member = member.ok_or_else(|| format!("a tensor whose storage `{}` is not there", storage.key))?;
        let size = storage.dtype.size_in_bytes() as u64;
        if (storage.len as u64).checked_mul(size).is_none_or(|bytes| bytes > member.len) {
            return Err(format!("a storage of {} numbers in {} bytes", storage.len, member.len));
        }
        let TensorView { offset, shape, strides, .. } = view;
        let described = || format!("the shape {shape:?} with strides {strides:?} from {offset} of {}", storage.len);
        let mut entry = Entry::strided(storage.dtype, shape, strides).ok_or_else(described)?;
        // A view may skip elements but not repeat them: an expanded tensor could be larger than any memory.
        let fits = offset.checked_add(entry.span).is_some_and(|end| end <= storage.len);
        if !fits || entry.len() > storage.len {
            return Err(described());
        }
        entry.start = member.start + *offset as u64 * size;
        Ok(entry)
    }

    /// Converts plain values to JSON. Non-finite numbers, which JSON does not support, become null.
    fn json(&mut self, id: Id, depth: usize) -> Parsed<serde_json::Value> {
        self.step(depth)?;
        Ok(match self.pickle.value(id) {
            Value::None => serde_json::Value::Null,
            Value::Bool(value) => (*value).into(),
            Value::Int(value) => (*value).into(),
            Value::Float(value) => Number::from_f64(*value).map_or(serde_json::Value::Null, Into::into),
            Value::Text(text) => (**text).into(),
            Value::List(items) | Value::Tuple(items) => {
                items.iter().map(|&item| self.json(item, depth + 1)).collect::<Parsed<Vec<_>>>()?.into()
            }
            Value::Dict(_) => {
                let items = self.dictionary(id).ok_or("a dictionary whose keys are neither text nor integers")?;
                let json = |(name, value)| Ok((name, self.json(value, depth + 1)?));
                items.into_iter().map(json).collect::<Parsed<Map<_, _>>>()?.into()
            }
            other @ (Value::Global(_) | Value::Storage(_) | Value::Tensor(_)) => {
                return Err(format!("{other:?} among the settings"));
            }
        })
    }
}
