//! Protobuf encoded by hand: fields by number, in any order and number, unlike generated code.

/// A message under construction.
#[derive(Clone, Debug, Default)]
pub struct Message(Vec<u8>);

// === impl Message ===

impl Message {
    /// A number: any integer, enum or boolean.
    pub fn number(mut self, field: u32, value: u64) -> Self {
        self.varint(u64::from(field) << 3);
        self.varint(value);
        self
    }

    /// A text.
    pub fn text(self, field: u32, text: &str) -> Self {
        self.bytes(field, text.as_bytes())
    }

    /// A message within this one.
    pub fn message(self, field: u32, message: Message) -> Self {
        self.bytes(field, &message.0)
    }

    /// One pair of a map of texts.
    pub fn pair(self, field: u32, key: &str, value: &str) -> Self {
        self.message(field, Message::default().text(1, key).text(2, value))
    }

    /// Arbitrary bytes.
    pub fn bytes(mut self, field: u32, bytes: &[u8]) -> Self {
        self.varint(u64::from(field) << 3 | 2);
        self.varint(bytes.len() as u64);
        self.0.extend(bytes);
        self
    }

    /// The encoded message.
    pub fn finish(self) -> Vec<u8> {
        self.0
    }

    fn varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}
