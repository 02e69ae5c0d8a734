//! By an entry in the person's autostart directory (Desktop Application Autostart Specification 0.5). The plugin's own entry
//! has the path without quotes, ignores `XDG_CONFIG_HOME` and is written through whatever link stands there.

use std::io::{self, Write as _};
use std::path::Path;
use std::{env, fs};
use tauri::{AppHandle, Builder, Manager as _, Wry};

const NAME: &str = "Postern.desktop";

pub(super) fn prepare(builder: Builder<Wry>) -> Builder<Wry> {
    builder
}

pub(super) fn set(app: &AppHandle, on: bool) -> Result<(), String> {
    let directory = app.path().config_dir().map_err(|error| error.to_string())?.join("autostart");
    let told = |error: io::Error| format!("{}: {error}", directory.display());
    if !on {
        return remove(&directory).map_err(told);
    }
    let program = env::current_exe().map_err(told)?;
    let entry = program.to_str().and_then(entry).ok_or_else(|| format!("{program:?} cannot stand in an entry"))?;
    write(&directory, &entry).map_err(told)
}

/// Replaced whole: a link that stands there is not followed.
fn write(directory: &Path, entry: &str) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    let mut file = tempfile::NamedTempFile::new_in(directory)?;
    file.write_all(entry.as_bytes())?;
    file.persist(directory.join(NAME))?;
    Ok(())
}

fn remove(directory: &Path) -> io::Result<()> {
    match fs::remove_file(directory.join(NAME)) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn entry(program: &str) -> Option<String> {
    let command = quoted(program)?;
    let hidden = crate::HIDDEN;
    Some(format!(
        "[Desktop Entry]\nType=Application\nName=Postern\nComment=Postern, in the background\nExec={command} {hidden}\n\
         StartupNotify=false\nTerminal=false\n"
    ))
}

/// One argument of `Exec` (Desktop Entry Specification 1.5, "The Exec key"): quoted, then escaped once more as a string.
fn quoted(argument: &str) -> Option<String> {
    let mut quoted = String::from("\"");
    for c in argument.chars() {
        match c {
            // No escape stands for these.
            c if c.is_control() => return None,
            '"' | '`' | '$' | '\\' => quoted.extend(['\\', c]),
            '%' => quoted.push_str("%%"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    Some(quoted.replace('\\', r"\\"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_means_itself_whatever_is_in_it() {
        assert!(entry("/usr/bin/postern-desktop").unwrap().contains("\nExec=\"/usr/bin/postern-desktop\" --hidden\n"));
        assert_eq!(quoted("/a b;%u/x").unwrap(), "\"/a b;%%u/x\"");
        assert_eq!(quoted("/$(id)`\"\\").unwrap(), r#""/\\$(id)\\`\\"\\\\""#);
        assert_eq!(entry("/a\nHidden=true"), None);
    }

    #[test]
    fn a21_a_link_that_stands_there_is_replaced_and_not_followed() {
        let dir = tempfile::tempdir().unwrap();
        let (directory, precious) = (dir.path().join("autostart"), dir.path().join("precious"));
        fs::write(&precious, "precious").unwrap();
        fs::create_dir(&directory).unwrap();
        std::os::unix::fs::symlink(&precious, directory.join(NAME)).unwrap();
        write(&directory, &entry("/usr/bin/postern-desktop").unwrap()).unwrap();
        assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
        assert!(fs::read_to_string(directory.join(NAME)).unwrap().starts_with("[Desktop Entry]\n"));
        remove(&directory).unwrap();
        remove(&directory).unwrap();
        assert!(!directory.join(NAME).exists() && precious.exists());
    }
}
