//! The terminal of `plegd top`: the alternate screen, no cursor, single keys. Dropping it restores the previous state.

use std::{
    io::{self, IsTerminal as _, Stdout, Write as _},
    os::fd::AsFd as _,
};

use rustix::termios::{
    LocalModes, OptionalActions, SpecialCodeIndex, Termios, tcgetattr, tcgetwinsize, tcsetattr,
};
use tokio::io::{AsyncReadExt as _, Stdin};

/// The alternate screen, without a cursor and without wrapping of lines.
const ENTER: &[u8] = b"\x1b[?1049h\x1b[?25l\x1b[?7l";
const LEAVE: &[u8] = b"\x1b[?7h\x1b[?25h\x1b[?1049l";

/// The size of a terminal that does not report it.
const USUAL: (usize, usize) = (80, 24);

/// A terminal in drawing mode. Dropping it restores the previous state.
pub(super) struct Terminal {
    out: Stdout,
    /// The previous settings; `None` if stdin is not a terminal.
    before: Option<Termios>,
}

/// The keys that the user presses.
pub(super) struct Keys(Option<Stdin>);

// === impl Terminal ===

impl Terminal {
    /// Switches the terminal to drawing mode.
    pub(super) fn enter() -> io::Result<Self> {
        let mut terminal = Self { out: io::stdout(), before: None };
        if io::stdin().is_terminal() {
            let before = tcgetattr(io::stdin().as_fd())?;
            let mut keys = before.clone();
            // Ctrl-C stays a signal. Ctrl-Z is disabled, because it would leave the shell on the alternate screen.
            keys.local_modes.remove(LocalModes::ICANON | LocalModes::ECHO);
            keys.special_codes[SpecialCodeIndex::VSUSP] = 0;
            keys.special_codes[SpecialCodeIndex::VMIN] = 1;
            keys.special_codes[SpecialCodeIndex::VTIME] = 0;
            tcsetattr(io::stdin().as_fd(), OptionalActions::Now, &keys)?;
            terminal.before = Some(before);
        }
        terminal.out.write_all(ENTER)?;
        terminal.out.flush()?;
        Ok(terminal)
    }

    /// The current width and height, in characters and lines.
    pub(super) fn size(&self) -> (usize, usize) {
        match tcgetwinsize(&self.out) {
            Ok(size) if size.ws_col > 0 && size.ws_row > 0 => (size.ws_col.into(), size.ws_row.into()),
            _ => USUAL,
        }
    }

    /// Draws a frame over the previous one without flicker: each line is cleared as it is written.
    pub(super) fn draw(&mut self, frame: &str) -> io::Result<()> {
        let mut text = String::from("\x1b[H");
        for (n, line) in frame.lines().enumerate() {
            text.push_str(if n == 0 { "" } else { "\r\n" });
            text.push_str(line);
            text.push_str("\x1b[K");
        }
        text.push_str("\x1b[J");
        self.out.write_all(text.as_bytes())?;
        self.out.flush()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // If the terminal was closed, there is no state to restore.
        let _ = self.out.write_all(LEAVE).and_then(|()| self.out.flush());
        if let Some(before) = &self.before {
            // Unread keys must not reach the shell.
            let _ = tcsetattr(io::stdin().as_fd(), OptionalActions::Flush, before);
        }
    }
}

// === impl Keys ===

impl Keys {
    /// The keys of this process's terminal, if it has one.
    pub(super) fn new() -> Self {
        Self(io::stdin().is_terminal().then(tokio::io::stdin))
    }

    /// The next key; pending forever if there is no terminal. The future may be dropped while it waits.
    pub(super) async fn next(&mut self) -> u8 {
        if let Some(stdin) = &mut self.0
            && let Ok(key) = stdin.read_u8().await
        {
            return key;
        }
        self.0 = None;
        std::future::pending().await
    }
}
