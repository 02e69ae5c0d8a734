//! The desktop program.

fn main() {
    tauri::Builder::default()
        .setup(|app| {
            tauri::WebviewWindowBuilder::new(app, "main", tauri::WebviewUrl::default()).title("Postern").build()?;
            Ok(())
        })
        .run(tauri::generate_context!())
        .ok();
}
