//! The look of the sample apps' pages: plain, readable, in light and dark, with nothing fetched from elsewhere.

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1c2430;--soft:#596579;--paper:#fff;--ground:#eef1f5;--line:#d5dae2;--good:#11643a;--bad:#a3161f}\
@media(prefers-color-scheme:dark){:root{--ink:#e8ecf2;--soft:#a4afbf;--paper:#1b212b;--ground:#11151b;--line:#39424f;--good:#7fdcaa;--bad:#ffb1b1}}\
*{box-sizing:border-box}body{margin:0;padding:2rem 1rem;background:var(--ground);color:var(--ink);font:1rem/1.5 system-ui,sans-serif}\
main{max-width:44rem;margin:auto;padding:2rem;background:var(--paper);border:1px solid var(--line);border-radius:.75rem}\
h1{margin:0 0 .5rem;color:var(--soft);font-size:1rem;font-weight:400}h2{margin:2rem 0 .5rem;font-size:1.125rem}\
.lead{margin:0;font-size:1.75rem;line-height:1.25}.lead strong{color:var(--good)}.bad{color:var(--bad)}\
table{width:100%;border-collapse:collapse}th,td{padding:.35rem .75rem .35rem 0;border-top:1px solid var(--line);text-align:left;vertical-align:top;overflow-wrap:anywhere}\
th{width:11rem;color:var(--soft);font-weight:400}code{font-family:ui-monospace,monospace;overflow-wrap:anywhere}";

pub(crate) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<title>{title} · Postern demo</title>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{title} · a sample app behind Postern</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )
}

pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;").replace('\'', "&#39;")
}
