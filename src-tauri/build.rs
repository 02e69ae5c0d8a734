//! Builds in the pages and the list of commands that they may call.

fn main() {
    let pages = std::path::Path::new("../ui/dist/index.html");
    println!("cargo:rerun-if-changed={}", pages.display());
    if !pages.exists() {
        println!("cargo:warning=the desktop's pages are not built: run `npm ci && npm run build` in ui/");
    }
    tauri_build::build();
}
