//! A reader for the part of Python's pickle format that checkpoints use.
//!
//! A pickle is a program for a stack machine, and Python runs whatever functions it names. This reader runs nothing: it
//! recognizes the few classes and functions that `torch.save` writes for tensors ([`known_global`]), builds plain
//! values for them, and rejects all other names. The memory it allocates is proportional to the number of bytes read.
//!
//! Format: the opcodes of CPython's `pickletools`, protocols 2 to 5.

use std::collections::HashMap;
use std::sync::Arc;

use super::pickle::{Global, Id, Parsed, Storage, TensorView, Value, known_global};

/// More dimensions than any weight has.
const MAX_RANK: usize = 16;

/// A decoded pickle.
pub(super) struct Pickle {
    values: Vec<Value>,
    /// The outermost value.
    pub(super) root: Id,
}

impl Pickle {
    /// Decodes `bytes`.
    pub(super) fn decode(bytes: &[u8]) -> Parsed<Self> {
        let (values, root) = Machine::new(bytes).run()?;
        Ok(Self { values, root })
    }

    /// The value at `id`.
    pub(super) fn value(&self, id: Id) -> &Value {
        // Ids are only created by `Machine::push`, and values are never removed; `None` is a fallback.
        self.values.get(id).unwrap_or(&Value::None)
    }
}

/// The state of the stack machine while it decodes a pickle.
struct Machine<'a> {
    input: &'a [u8],
    values: Vec<Value>,
    stack: Vec<Id>,
    /// The height of the stack at each open mark.
    marks: Vec<usize>,
    memo: HashMap<usize, Id>,
}

impl<'a> Machine<'a> {
    /// The initial state for the pickle `input`.
    fn new(input: &'a [u8]) -> Self {
        Self { input, values: Vec::new(), stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() }
    }

    /// Runs the pickle and returns all values and the id of the outermost one.
    fn run(mut self) -> Parsed<(Vec<Value>, Id)> {
        loop {
            match self.byte()? {
                // Framing: the protocol number and the frame lengths are not needed to read the rest.
                0x80 => drop(self.byte()?),
                0x95 => drop(self.take(8)?),
                b'.' => {
                    let root = self.pop()?;
                    return Ok((self.values, root));
                }
                b'(' => self.marks.push(self.stack.len()),
                b'0' => drop(self.pop()?),
                b'1' => drop(self.pop_mark()?),
                b'N' => self.push(Value::None),
                0x88 => self.push(Value::Bool(true)),
                0x89 => self.push(Value::Bool(false)),
                b'K' => self.int(1)?,
                b'M' => self.int(2)?,
                b'J' => {
                    let value = self.array::<4>()?;
                    self.push(Value::Int(i32::from_le_bytes(value).into()));
                }
                0x8a => {
                    let value = self.long()?;
                    self.push(Value::Int(value));
                }
                b'G' => {
                    // The only big-endian number of the format.
                    let value = f64::from_be_bytes(self.array()?);
                    self.push(Value::Float(value));
                }
                b'X' => self.text(4)?,
                0x8c => self.text(1)?,
                0x8d => self.text(8)?,
                b']' => self.push(Value::List(Vec::new())),
                b'}' => self.push(Value::Dict(Vec::new())),
                b')' => self.push(Value::Tuple(Vec::new())),
                0x85 => self.tuple(1)?,
                0x86 => self.tuple(2)?,
                0x87 => self.tuple(3)?,
                b't' => {
                    let items = self.pop_mark()?;
                    self.push(Value::Tuple(items));
                }
                b'a' => {
                    let item = self.pop()?;
                    self.extend_list(vec![item])?;
                }
                b'e' => {
                    let items = self.pop_mark()?;
                    self.extend_list(items)?;
                }
                b's' => {
                    let value = self.pop()?;
                    let key = self.pop()?;
                    self.extend_dict(vec![key, value])?;
                }
                b'u' => {
                    let items = self.pop_mark()?;
                    self.extend_dict(items)?;
                }
                b'c' => {
                    let module = self.line()?;
                    let name = self.line()?;
                    self.global(&module, &name)?;
                }
                0x93 => {
                    let (name, module) = (self.pop()?, self.pop()?);
                    match (self.value(module).clone(), self.value(name).clone()) {
                        (Value::Text(module), Value::Text(name)) => self.global(&module, &name)?,
                        _ => return Err("a global whose name is not text".into()),
                    }
                }
                // Calling a function and instantiating a class are handled alike.
                b'R' | 0x81 => {
                    let (arguments, callable) = (self.pop()?, self.pop()?);
                    self.call(callable, arguments)?;
                }
                b'b' => self.build()?,
                b'Q' => {
                    let id = self.pop()?;
                    let storage = self.storage(id)?;
                    self.push(Value::Storage(Arc::new(storage)));
                }
                b'q' => {
                    let index = self.unsigned(1)?;
                    self.memoize(index)?;
                }
                b'r' => {
                    let index = self.unsigned(4)?;
                    self.memoize(index)?;
                }
                0x94 => self.memoize(self.memo.len())?,
                b'h' => self.recall(1)?,
                b'j' => self.recall(4)?,
                other => return Err(format!("the pickle instruction 0x{other:02x}, which no checkpoint needs")),
            }
        }
    }

    // --- input ---

    fn take(&mut self, len: usize) -> Parsed<&[u8]> {
        let (head, tail) = self.input.split_at_checked(len).ok_or("a pickle that ends too early")?;
        self.input = tail;
        Ok(head)
    }

    fn byte(&mut self) -> Parsed<u8> {
        Ok(self.array::<1>()?[0])
    }

    fn array<const N: usize>(&mut self) -> Parsed<[u8; N]> {
        let (head, tail) = self.input.split_first_chunk::<N>().ok_or("a pickle that ends too early")?;
        self.input = tail;
        Ok(*head)
    }

    /// A little-endian number of `len` ≤ 8 bytes.
    fn unsigned(&mut self, len: usize) -> Parsed<usize> {
        let number = self.take(len)?.iter().rev().fold(0u64, |number, &byte| number << 8 | u64::from(byte));
        usize::try_from(number).map_err(|_| format!("a length of {number}"))
    }

    /// A little-endian two's complement number, preceded by its length.
    fn long(&mut self) -> Parsed<i64> {
        let len = self.byte()?;
        let bytes = self.take(len.into())?;
        if bytes.len() > 8 {
            return Err(format!("an integer of {len} bytes"));
        }
        let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
        let mut wide = if negative { [0xff; 8] } else { [0; 8] };
        for (to, from) in wide.iter_mut().zip(bytes) {
            *to = *from;
        }
        Ok(i64::from_le_bytes(wide))
    }

    fn int(&mut self, bytes: usize) -> Parsed<()> {
        let value = self.unsigned(bytes)?;
        self.push(Value::Int(i64::try_from(value).map_err(|_| format!("the integer {value}"))?));
        Ok(())
    }

    fn text(&mut self, len_bytes: usize) -> Parsed<()> {
        let len = self.unsigned(len_bytes)?;
        let text = std::str::from_utf8(self.take(len)?).map_err(|_| "text that is not UTF-8")?.into();
        self.push(Value::Text(text));
        Ok(())
    }

    fn line(&mut self) -> Parsed<String> {
        let end = self.input.iter().position(|&byte| byte == b'\n').ok_or("a pickle that ends too early")?;
        let line = self.take(end + 1)?;
        Ok(String::from_utf8_lossy(&line[..end]).into_owned())
    }

    // --- stack and memo ---

    fn push(&mut self, value: Value) {
        self.stack.push(self.values.len());
        self.values.push(value);
    }

    /// The lowest stack position above the innermost open mark.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn pop(&mut self) -> Parsed<Id> {
        if self.stack.len() <= self.floor() {
            return Err("a pickle that takes more from its stack than it put there".into());
        }
        self.stack.pop().ok_or_else(|| "an empty stack".into())
    }

    fn pop_mark(&mut self) -> Parsed<Vec<Id>> {
        let mark = self.marks.pop().ok_or("a pickle that closes a mark it never opened")?;
        // `pop` never goes below a mark, so the split is within the stack.
        Ok(self.stack.split_off(mark.min(self.stack.len())))
    }

    fn top(&self) -> Parsed<Id> {
        match self.stack.last() {
            Some(&id) if self.stack.len() > self.floor() => Ok(id),
            _ => Err("a pickle that reads an empty stack".into()),
        }
    }

    fn value(&self, id: Id) -> &Value {
        self.values.get(id).unwrap_or(&Value::None)
    }

    fn memoize(&mut self, index: usize) -> Parsed<()> {
        let top = self.top()?;
        self.memo.insert(index, top);
        Ok(())
    }

    fn recall(&mut self, index_bytes: usize) -> Parsed<()> {
        let index = self.unsigned(index_bytes)?;
        let id = *self.memo.get(&index).ok_or("a reference to an object that was never stored")?;
        self.stack.push(id);
        Ok(())
    }

    // --- values ---

    fn tuple(&mut self, len: usize) -> Parsed<()> {
        let mut items = (0..len).map(|_| self.pop()).collect::<Parsed<Vec<_>>>()?;
        items.reverse();
        self.push(Value::Tuple(items));
        Ok(())
    }

    fn extend_list(&mut self, mut items: Vec<Id>) -> Parsed<()> {
        let top = self.top()?;
        match self.values.get_mut(top) {
            Some(Value::List(list)) => list.append(&mut items),
            _ => return Err("items appended to something that is not a list".into()),
        }
        Ok(())
    }

    fn extend_dict(&mut self, items: Vec<Id>) -> Parsed<()> {
        let top = self.top()?;
        let (pairs, rest) = items.as_chunks::<2>();
        match self.values.get_mut(top) {
            Some(Value::Dict(dict)) if rest.is_empty() => dict.extend(pairs.iter().map(|&[key, value]| (key, value))),
            Some(Value::Dict(_)) => return Err("a dictionary with a key that has no value".into()),
            _ => return Err("keys set on something that is not a dictionary".into()),
        }
        Ok(())
    }

    fn global(&mut self, module: &str, name: &str) -> Parsed<()> {
        let global = known_global(module, name).ok_or_else(|| {
            format!("`{module}.{name}`, which is not part of a checkpoint of tensors (it was not run)")
        })?;
        self.push(Value::Global(global));
        Ok(())
    }

    /// Sets `state` on an object: attributes of dictionaries and tensors (`_metadata`, hooks), which contain no
    /// weights.
    fn build(&mut self) -> Parsed<()> {
        self.pop()?;
        match self.value(self.top()?) {
            Value::Dict(_) | Value::Tensor(_) => Ok(()),
            _ => Err("attributes set on something that is neither a dictionary nor a tensor".into()),
        }
    }

    /// Pushes the result of calling a known function.
    fn call(&mut self, callable: Id, arguments: Id) -> Parsed<()> {
        let Value::Global(global) = *self.value(callable) else {
            return Err("a call of something that is not a function".into());
        };
        let Value::Tuple(arguments) = self.value(arguments) else {
            return Err("a call whose arguments are not a tuple".into());
        };
        let argument = |index: usize| arguments.get(index).map(|&id| (id, self.value(id)));
        match (global, argument(0)) {
            (Global::OrderedDict, None) => self.push(Value::Dict(Vec::new())),
            (Global::RebuildTensor, Some((_, Value::Storage(storage)))) => {
                let (Some((_, &Value::Int(offset))), Some((_, shape)), Some((_, strides))) =
                    (argument(1), argument(2), argument(3))
                else {
                    return Err("a tensor without offset, shape and strides".into());
                };
                let view = TensorView {
                    storage: storage.clone(),
                    offset: size(offset)?,
                    shape: self.sizes(shape)?,
                    strides: self.sizes(strides)?,
                };
                self.push(Value::Tensor(Box::new(view)));
            }
            // Tuples of sizes and parameters are represented by their first argument; the others only matter to Python.
            (Global::Size, Some((id, Value::Tuple(_)))) | (Global::RebuildParameter, Some((id, Value::Tensor(_)))) => {
                self.stack.push(id);
            }
            // (function, class, arguments of the function, state)
            (Global::RebuildFromType, Some((function, Value::Global(inner)))) if *inner != Global::RebuildFromType => {
                let (inner_arguments, _) = argument(2).ok_or("a tensor subclass of unknown form")?;
                self.call(function, inner_arguments)?;
            }
            _ => return Err(format!("a call of {global:?} with arguments of unknown form")),
        }
        Ok(())
    }

    fn sizes(&self, value: &Value) -> Parsed<Vec<usize>> {
        let Value::Tuple(items) = value else { return Err("sizes that are not a tuple".into()) };
        if items.len() > MAX_RANK {
            return Err(format!("a tensor of {} dimensions", items.len()));
        }
        let int = |&id: &Id| match self.value(id) {
            Value::Int(int) => size(*int),
            _ => Err("sizes that are not integers".into()),
        };
        items.iter().map(int).collect()
    }

    /// The persistent ids of torch: ("storage", type, key, device, number of elements).
    fn storage(&self, id: Id) -> Parsed<Storage> {
        let Value::Tuple(items) = self.value(id) else { return Err("an external object of unknown form".into()) };
        let item = |index: usize| items.get(index).map(|&id| self.value(id));
        match (item(0), item(1), item(2), item(4)) {
            (
                Some(Value::Text(kind)),
                Some(Value::Global(Global::StorageType(dtype))),
                Some(Value::Text(key)),
                Some(&Value::Int(len)),
            ) if **kind == *"storage" => Ok(Storage { dtype: *dtype, key: key.clone(), len: size(len)? }),
            _ => Err("an external object of unknown form".into()),
        }
    }
}

fn size(int: i64) -> Parsed<usize> {
    usize::try_from(int).map_err(|_| format!("a size of {int}"))
}
