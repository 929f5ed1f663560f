//! Who calls whom in a program, and the deepest stack that can come of it.
//!
//! A function's frame is the sum of everything it ever takes off the stack pointer. A call through a pointer may reach every
//! function whose address is somewhere in the program. Functions that can come back to themselves that way form a group, and
//! each of its frames is counted once: a program that really recurses is not bounded by that, which is why the kernel may not.

use super::code::{Instruction, decode};
use anyhow::{Context, Result};
use object::{File, Object as _, ObjectSection as _, ObjectSymbol as _, SectionKind, SymbolKind};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// Instructions before a jump through a register in which its target is made.
const WINDOW: usize = 10;

#[derive(Clone, Debug, Default)]
struct Function {
    name: String,
    frame: u64,
    unknown_frame: bool,
    through_pointer: bool,
    /// Whom it calls by name.
    direct: BTreeSet<usize>,
    /// Whom it may call, by whatever means.
    callees: BTreeSet<usize>,
    /// Addresses that it makes.
    addresses: Vec<u64>,
}

impl Function {
    /// Whether this is its name, or the end of it behind its modules.
    fn is_called(&self, name: &str) -> bool {
        let before = self.name.strip_suffix(name);
        before.is_some_and(|before| before.is_empty() || before.ends_with("::"))
    }
}

/// The deepest stack.
#[derive(Clone, Debug, Default)]
pub struct Deepest {
    /// In bytes.
    pub bytes: u64,
    /// From the outermost function to the innermost.
    pub path: Vec<String>,
}

/// The call graph.
#[derive(Clone, Debug, Default)]
pub struct Calls {
    functions: Vec<Function>,
    /// Functions by their addresses.
    index: BTreeMap<u64, usize>,
}

impl Calls {
    /// Reads a program.
    ///
    /// # Errors
    /// When a function's bytes are not there.
    pub fn of(file: &File<'_>) -> Result<Self> {
        let mut bounds: BTreeMap<u64, (u64, String)> = BTreeMap::new();
        for symbol in file.symbols() {
            if symbol.kind() == SymbolKind::Text && symbol.size() > 0 {
                let name = symbol.name().unwrap_or("?");
                // Without the hash: what was made of one function for several types has one name.
                let name = format!("{:#}", rustc_demangle::demangle(name));
                bounds.insert(symbol.address(), (symbol.size(), name));
            }
        }
        let index: BTreeMap<u64, usize> = bounds.keys().copied().zip(0..).collect();
        let mut functions: Vec<Function> = Vec::new();
        let mut taken = addresses_in_data(file, &index)?;
        for (&start, (size, name)) in &bounds {
            let bytes = bytes_at(file, start, *size).with_context(|| name.clone())?;
            let mut function = Function {
                name: name.clone(),
                ..Function::default()
            };
            read(&mut function, bytes, start, *size, &index, &mut taken);
            functions.push(function);
        }
        for function in &mut functions {
            function.callees = function.direct.clone();
            if function.through_pointer {
                function.callees.extend(&taken);
            }
        }
        Ok(Self { functions, index })
    }

    /// The one function with this name, its modules before it or not.
    ///
    /// # Errors
    /// When there is none, or more.
    pub fn named(&self, name: &str) -> Result<usize> {
        let mut found = (0..self.functions.len()).filter(|&f| self.functions[f].is_called(name));
        match (found.next(), found.next()) {
            (Some(function), None) => Ok(function),
            (None, _) => anyhow::bail!("there is no function {name}"),
            (Some(_), Some(_)) => anyhow::bail!("there are several functions {name}"),
        }
    }

    /// The functions in the first table that a function makes the address of: at most `count` in a row.
    ///
    /// # Errors
    /// When a section cannot be read.
    pub fn table_in(&self, function: usize, count: usize, file: &File<'_>) -> Result<Vec<usize>> {
        for &address in &self.functions[function].addresses {
            for section in file.sections() {
                let range = section.address()..section.address() + section.size();
                if !is_data(section.kind()) || !range.contains(&address) {
                    continue;
                }
                let table = section.data()?.get((address - range.start) as usize..);
                let words = table.unwrap_or_default().chunks_exact(8).take(count);
                let functions: Vec<usize> = words
                    .map_while(|word| {
                        let word = u64::from_le_bytes(word.try_into().ok()?);
                        self.index.get(&word).copied()
                    })
                    .collect();
                if !functions.is_empty() {
                    return Ok(functions);
                }
            }
        }
        Ok(Vec::new())
    }

    /// The program in which `caller` calls, beside whom it calls by name, `callee` and nobody else through its pointer, and in
    /// which nobody else calls any of `bodies` through one.
    pub fn with_only(&self, caller: usize, callee: Option<usize>, bodies: &[usize]) -> Self {
        let mut other = self.clone();
        for (number, function) in other.functions.iter_mut().enumerate() {
            if number == caller {
                function.callees = function.direct.clone();
                function.callees.extend(callee);
            } else if function.through_pointer {
                let direct = &function.direct;
                function
                    .callees
                    .retain(|callee| direct.contains(callee) || !bodies.contains(callee));
            }
        }
        other
    }

    /// The names of functions that call through pointers.
    pub fn calls_through_pointers(&self) -> impl Iterator<Item = &str> {
        let mut through = self.functions.iter().filter(|f| f.through_pointer);
        std::iter::from_fn(move || through.next().map(|f| f.name.as_str()))
    }

    /// The names of functions whose frames are not known.
    pub fn with_unknown_frames(&self) -> impl Iterator<Item = &str> {
        let mut unknown = self.functions.iter().filter(|f| f.unknown_frame);
        std::iter::from_fn(move || unknown.next().map(|f| f.name.as_str()))
    }

    /// The functions of one way in which a function comes back to itself.
    pub fn cycle(&self) -> Option<Vec<String>> {
        let group = self.groups().into_iter().find(|group| {
            group.len() > 1 || self.functions[group[0]].callees.contains(&group[0])
        })?;
        // Inside a group, some callee of every function leads on; going on, one of them comes a second time.
        let mut path = vec![group[0]];
        loop {
            let here = path[path.len() - 1];
            let next = *self.functions[here]
                .callees
                .iter()
                .find(|callee| group.contains(callee))?;
            let seen = path.iter().position(|&function| function == next);
            path.push(next);
            if let Some(start) = seen {
                let names = path[start..]
                    .iter()
                    .map(|&f| self.functions[f].name.clone());
                return Some(names.collect());
            }
        }
    }

    /// The shortest way to the function with this name from one that nobody calls; `None` when nothing leads there.
    pub fn way_to(&self, name: &str) -> Option<Vec<String>> {
        let function = self.functions.iter().position(|f| f.is_called(name))?;
        let mut callers = vec![Vec::new(); self.functions.len()];
        for (caller, found) in self.functions.iter().enumerate() {
            for &callee in found.callees.iter().filter(|&&callee| callee != caller) {
                callers[callee].push(caller);
            }
        }
        // Backwards, in the order of distance; who was reached knows who comes next.
        let mut next = BTreeMap::from([(function, function)]);
        let mut open = VecDeque::from([function]);
        let mut start = None;
        while let Some(here) = open.pop_front() {
            if callers[here].is_empty() {
                start = Some(here).filter(|&start| start != function);
                break;
            }
            for &caller in &callers[here] {
                next.entry(caller).or_insert_with(|| {
                    open.push_back(caller);
                    here
                });
            }
        }
        let way = std::iter::successors(start, |here| {
            next.get(here).copied().filter(|_| *here != function)
        });
        let names: Vec<String> = way.map(|f| self.functions[f].name.clone()).collect();
        (!names.is_empty()).then_some(names)
    }

    /// The deepest stack from any function on.
    pub fn deepest(&self) -> Deepest {
        self.deepest_of(None)
    }

    /// The deepest stack from this function on.
    pub fn deepest_from(&self, function: usize) -> Deepest {
        self.deepest_of(Some(function))
    }

    fn deepest_of(&self, from: Option<usize>) -> Deepest {
        let groups = self.groups();
        let mut group_of = vec![0; self.functions.len()];
        for (number, group) in groups.iter().enumerate() {
            for &function in group {
                group_of[function] = number;
            }
        }
        // Callees' groups come before their callers'.
        let mut depths: Vec<(u64, Option<usize>)> = Vec::with_capacity(groups.len());
        for (number, group) in groups.iter().enumerate() {
            let own: u64 = group.iter().map(|&f| self.functions[f].frame).sum();
            let below = group
                .iter()
                .flat_map(|&f| &self.functions[f].callees)
                .map(|&callee| group_of[callee])
                .filter(|&callee| callee != number)
                .max_by_key(|&callee| depths[callee].0);
            depths.push((own + below.map_or(0, |callee| depths[callee].0), below));
        }
        let top = match from {
            Some(function) => group_of.get(function).copied(),
            None => (0..groups.len()).max_by_key(|&number| depths[number].0),
        };
        let Some(top) = top else {
            return Deepest::default();
        };
        let path = std::iter::successors(Some(top), |&number| depths[number].1);
        Deepest {
            bytes: depths[top].0,
            path: path
                .map(|number| self.functions[groups[number][0]].name.clone())
                .collect(),
        }
    }

    /// The strongly connected groups of functions, callees before callers (Tarjan's algorithm, with a stack of its own).
    fn groups(&self) -> Vec<Vec<usize>> {
        const NEW: usize = usize::MAX;
        let count = self.functions.len();
        let (mut order, mut low) = (vec![NEW; count], vec![NEW; count]);
        let (mut open, mut groups, mut next) = (Vec::new(), Vec::new(), 0);
        let mut is_open = vec![false; count];
        for root in 0..count {
            if order[root] != NEW {
                continue;
            }
            let mut work = vec![(root, self.functions[root].callees.iter())];
            while let Some((function, callees)) = work.last_mut() {
                let function = *function;
                if order[function] == NEW {
                    (order[function], low[function]) = (next, next);
                    next += 1;
                    open.push(function);
                    is_open[function] = true;
                }
                if let Some(&callee) = callees.next() {
                    if order[callee] == NEW {
                        work.push((callee, self.functions[callee].callees.iter()));
                    } else if is_open[callee] {
                        low[function] = low[function].min(order[callee]);
                    }
                    continue;
                }
                work.pop();
                if let Some((caller, _)) = work.last() {
                    low[*caller] = low[*caller].min(low[function]);
                }
                if low[function] == order[function] {
                    let at = open.iter().position(|&f| f == function).unwrap_or(0);
                    let group = open.split_off(at);
                    for &member in &group {
                        is_open[member] = false;
                    }
                    groups.push(group);
                }
            }
        }
        groups
    }
}

/// The bytes of a program at an address.
fn bytes_at<'a>(file: &File<'a>, address: u64, size: u64) -> Result<&'a [u8]> {
    file.sections()
        .filter(|section| section.kind() == SectionKind::Text)
        .find_map(|section| section.data_range(address, size).ok().flatten())
        .context("its bytes are not in the file")
}

/// Whether a section of this kind can have a function's address in it. A linker calls all constants strings when some are.
const fn is_data(kind: SectionKind) -> bool {
    matches!(
        kind,
        SectionKind::Data
            | SectionKind::ReadOnlyData
            | SectionKind::ReadOnlyDataWithRel
            | SectionKind::ReadOnlyString
    )
}

/// The functions whose addresses lie in constants or data.
fn addresses_in_data(file: &File<'_>, index: &BTreeMap<u64, usize>) -> Result<BTreeSet<usize>> {
    let mut taken = BTreeSet::new();
    for section in file.sections() {
        if !is_data(section.kind()) {
            continue;
        }
        for word in section.data()?.chunks_exact(8) {
            let word = u64::from_le_bytes(word.try_into()?);
            taken.extend(index.get(&word));
        }
    }
    Ok(taken)
}

/// Reads a function's instructions.
fn read(
    function: &mut Function,
    bytes: &[u8],
    start: u64,
    size: u64,
    index: &BTreeMap<u64, usize>,
    taken: &mut BTreeSet<usize>,
) {
    let code: Vec<Instruction> = bytes
        .chunks_exact(4)
        .zip((start..).step_by(4))
        .map(|(word, at)| decode(u32::from_le_bytes([word[0], word[1], word[2], word[3]]), at))
        .collect();
    let mut pages = [None; 32];
    for (position, instruction) in code.iter().enumerate() {
        match *instruction {
            Instruction::Call(to) => function.direct.extend(index.get(&to)),
            Instruction::Jump(to) if !(start..start + size).contains(&to) => {
                function.direct.extend(index.get(&to));
            }
            Instruction::CallRegister => function.through_pointer = true,
            Instruction::JumpRegister(register) => {
                let before = &code[position.saturating_sub(WINDOW)..position];
                function.through_pointer |= !is_jump_table(before, register);
            }
            Instruction::Grow(bytes) => function.frame += bytes,
            Instruction::GrowUnknown => function.unknown_frame = true,
            Instruction::Address(_, address) => {
                function.addresses.push(address);
                taken.extend(index.get(&address));
            }
            Instruction::Page(register, page) => pages[register as usize & 31] = Some(page),
            Instruction::Add(_, source, value) => {
                let address = pages[source as usize & 31].map(|page: u64| page + value);
                function.addresses.extend(address);
                taken.extend(address.and_then(|address| index.get(&address)));
            }
            _ => {}
        }
    }
}

/// Whether a jump through `register` is one to a place in the same function: what was last put into it is a sum of two
/// registers, as compilers write a `match`.
fn is_jump_table(before: &[Instruction], register: u32) -> bool {
    before.contains(&Instruction::AddRegister(register))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(u64, &[usize])]) -> Calls {
        let functions = edges
            .iter()
            .enumerate()
            .map(|(n, (frame, callees))| Function {
                name: format!("f{n}"),
                frame: *frame,
                callees: callees.iter().copied().collect(),
                ..Function::default()
            });
        Calls {
            functions: functions.collect(),
            index: BTreeMap::new(),
        }
    }

    #[test]
    fn each_thread_is_a_program_of_its_own() {
        // 0 starts 1, which calls 2 or 3 through its table; both say something with 4, which calls through pointers too.
        let mut calls = graph(&[
            (16, &[1]),
            (32, &[2, 3, 4]),
            (1000, &[4]),
            (200, &[4]),
            (8, &[2, 3, 5]),
            (64, &[]),
        ]);
        for (function, direct) in [(0, 1), (1, 4), (2, 4), (3, 4)] {
            calls.functions[function].direct.insert(direct);
        }
        for function in [1, 4] {
            calls.functions[function].through_pointer = true;
        }
        let depths = [Some(2), Some(3), None].map(|thread| {
            let program = calls.with_only(1, thread, &[2, 3]);
            program.deepest_from(0).bytes
        });
        assert_eq!(depths, [1120, 320, 120]);
        assert_eq!(calls.named("f3").unwrap(), 3);
        assert!(calls.named("f").is_err() && calls.named("g").is_err());
    }

    #[test]
    fn the_deepest_path_is_found() {
        let calls = graph(&[(16, &[1, 2]), (100, &[3]), (32, &[3]), (48, &[])]);
        let deepest = calls.deepest();
        assert_eq!(
            (deepest.bytes, deepest.path.join(" ")),
            (164, "f0 f1 f3".into())
        );
        assert_eq!(calls.cycle(), None);
    }

    #[test]
    fn what_comes_back_to_itself_is_named_and_counted_once() {
        let calls = graph(&[(16, &[1]), (32, &[2]), (64, &[1, 3]), (8, &[])]);
        assert_eq!(calls.cycle().map(|path| path.len()), Some(3));
        assert_eq!(calls.deepest().bytes, 16 + 32 + 64 + 8);
        assert_eq!(graph(&[(8, &[0])]).cycle().unwrap().join(" "), "f0 f0");
    }

    #[test]
    fn the_way_to_a_function_is_found() {
        let calls = graph(&[(8, &[1]), (8, &[2, 3]), (8, &[3, 2]), (8, &[1]), (8, &[2])]);
        assert_eq!(calls.way_to("f3").unwrap().join(" "), "f0 f1 f3");
        assert_eq!(calls.way_to("f2").unwrap().join(" "), "f4 f2");
        assert_eq!(calls.way_to("f0"), None);
        assert_eq!(calls.way_to("f9"), None);
    }

    #[test]
    fn a_match_is_no_call_through_a_pointer() {
        // adr x10, table; add x10, x10, x11; br x10; then blr x8 behind it.
        let table = [0x1000_004au32, 0x8b0b_014a, 0xd61f_0140];
        let read_all = |words: &[u32]| {
            let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let mut function = Function::default();
            let size = bytes.len() as u64;
            read(
                &mut function,
                &bytes,
                0x1000,
                size,
                &BTreeMap::new(),
                &mut BTreeSet::new(),
            );
            function.through_pointer
        };
        assert!(!read_all(&table));
        assert!(read_all(&[table.as_slice(), &[0xd63f_0100]].concat()));
        assert!(read_all(&[0xd61f_0140]));
    }
}
