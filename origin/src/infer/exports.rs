//! Other exports of a graph, for tests: half precision, whole-numbered timesteps, a fixed number
//! of rows. Changes the file's own message, field by field.

/// A field's key (its number times eight, plus its kind) and what it holds.
type Field = (u64, Vec<u8>);

fn number(bytes: &[u8], at: &mut usize) -> u64 {
    let mut value = 0;
    for shift in (0..).step_by(7) {
        let byte = bytes[*at];
        *at += 1;
        value |= u64::from(byte & 127) << shift;
        if byte < 128 {
            break;
        }
    }
    value
}

fn written(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 127 {
        bytes.push(value as u8 | 128);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

fn split(bytes: &[u8]) -> Vec<Field> {
    let (mut fields, mut at) = (Vec::new(), 0);
    while at < bytes.len() {
        let key = number(bytes, &mut at);
        let start = at;
        let length = match key & 7 {
            0 => {
                number(bytes, &mut at);
                fields.push((key, bytes[start..at].to_vec()));
                continue;
            }
            1 => 8,
            5 => 4,
            _ => number(bytes, &mut at) as usize,
        };
        fields.push((key, bytes[at..at + length].to_vec()));
        at += length;
    }
    fields
}

fn join(fields: &[Field]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (key, value) in fields {
        bytes.extend(written(*key));
        if key & 7 == 2 {
            bytes.extend(written(value.len() as u64));
        }
        bytes.extend(value);
    }
    bytes
}

const fn part(field: u64) -> u64 {
    field << 3 | 2
}

/// Changes every part of that number.
fn change(bytes: &[u8], field: u64, mut change: impl FnMut(&[u8]) -> Vec<u8>) -> Vec<u8> {
    let fields = split(bytes).into_iter().map(|(key, value)| match key {
        key if key == part(field) => (key, change(&value)),
        _ => (key, value),
    });
    join(&fields.collect::<Vec<_>>())
}

// Of ONNX: a graph's nodes, inputs and outputs; a node's inputs and outputs; types of elements.
const NODE: u64 = 1;
const INPUT: u64 = 11;
const OUTPUT: u64 = 12;
const SINGLE: u64 = 1;
const WHOLE: u64 = 7;
const HALF: u64 = 10;

fn cast(from: &str, to: &str, element: u64) -> Field {
    let attribute = [
        (part(1), b"to".to_vec()),
        (3 << 3, written(element)),
        (20 << 3, written(2)),
    ];
    let node = [
        (part(1), from.into()),
        (part(2), to.into()),
        (part(4), b"Cast".to_vec()),
        (part(5), join(&attribute)),
    ];
    (part(NODE), join(&node))
}

/// The graph with real numbers in half precision and timesteps as whole numbers at its ends.
pub fn halved(model: &[u8]) -> Vec<u8> {
    change(model, 7, |graph| {
        let (mut first, mut last) = (Vec::new(), Vec::new());
        let retyped = |port: &[u8], element: u64| {
            change(port, 2, |of| {
                change(of, 1, |tensor| {
                    let fields = split(tensor).into_iter().map(|(key, value)| match key {
                        8 => (key, written(element)),
                        _ => (key, value),
                    });
                    join(&fields.collect::<Vec<_>>())
                })
            })
        };
        let name = |port: &[u8]| String::from_utf8(split(port).remove(0).1).unwrap();
        let graph = change(graph, INPUT, |port| {
            let name = name(port);
            let element = if name == "timestep" { WHOLE } else { HALF };
            first.push(cast(&name, &format!("{name}/wide"), SINGLE));
            retyped(port, element)
        });
        let graph = change(&graph, OUTPUT, |port| {
            let name = name(port);
            last.push(cast(&format!("{name}/wide"), &name, HALF));
            retyped(port, HALF)
        });
        let ends: Vec<String> = split(&graph)
            .into_iter()
            .filter(|(key, _)| [part(INPUT), part(OUTPUT)].contains(key))
            .map(|(_, port)| name(&port))
            .collect();
        let renamed = |end: &[u8]| match ends.iter().any(|name| name.as_bytes() == end) {
            true => [end, b"/wide"].concat(),
            false => end.to_vec(),
        };
        let graph = change(&graph, NODE, |node| {
            change(&change(node, 1, renamed), 2, renamed)
        });
        let mut all = first;
        all.extend(split(&graph));
        all.extend(last);
        join(&all)
    })
}

/// The graph for that many rows and no other number.
pub fn with_rows(model: &[u8], rows: u64) -> Vec<u8> {
    let fixed = join(&[(1 << 3, written(rows))]);
    change(model, 7, |graph| {
        change(graph, INPUT, |port| {
            change(port, 2, |of| {
                change(of, 1, |tensor| {
                    change(tensor, 2, |shape| {
                        let mut sides = split(shape);
                        if let Some(side) = sides.first_mut() {
                            side.1.clone_from(&fixed);
                        }
                        join(&sides)
                    })
                })
            })
        })
    })
}
