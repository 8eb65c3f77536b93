"""What colours and sizes does the page have? Light and dark, and as wide as a phone."""

STYLE = """
:root {
  color-scheme: light dark;
  --ground: #ffffff; --card: #f5f7f9; --ink: #1b2026; --dim: #59636e; --line: #c6cdd5;
  --request: #0969a8; --answer: #2f7d4f; --copy: #b65a00; --update: #7a45b5;
  --bad: #c1241c; --reset: #9c1a63; --close: #59636e;
  --first: #0969a8; --second: #b65a00; --third: #7a45b5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ground: #14181d; --card: #1d232a; --ink: #e4e9ee; --dim: #9da8b4; --line: #434d58;
    --request: #6cb4f0; --answer: #6fce93; --copy: #f0a04b; --update: #c39bf0;
    --bad: #ff7a70; --reset: #f07fbb; --close: #9da8b4;
    --first: #6cb4f0; --second: #f0a04b; --third: #c39bf0;
  }
}
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 0 auto; padding: 1rem;
  background: var(--ground); color: var(--ink); overflow-wrap: break-word; }
h1 { margin: .5rem 0; } h2 { margin: 2.2rem 0 .6rem; font-size: 1.2rem; }
p { margin: .5rem 0; } .headline { font-size: 1.1rem; } .dim { color: var(--dim); }
figure { margin: .6rem 0; padding: .8rem; background: var(--card); border-radius: .5rem; }
figcaption { font-size: .85rem; color: var(--dim); margin-top: .5rem; }
figure .title { margin: 0 0 .4rem; font-weight: 600; font-size: .9rem; }
.scroll { overflow-x: auto; }
svg { display: block; width: 100%; height: auto; max-width: 40rem; margin: 0 auto; }
svg text { font: 11.5px system-ui, sans-serif; fill: var(--ink); }
svg .dim { fill: var(--dim); } svg .strong { font-weight: 600; }
svg .halo { paint-order: stroke; stroke: var(--card); stroke-width: 4px; stroke-linejoin: round; }
svg .time { font-variant-numeric: tabular-nums; fill: var(--dim); }
svg .small { font-size: 10px; }
svg .tiny { font-size: 8.5px; font-weight: 700; }
svg .end { text-anchor: end; } svg .middle { text-anchor: middle; }
.legend > span { white-space: nowrap; margin-right: 1rem; }
.legend svg { display: inline-block; width: 26px; height: 12px; margin: 0 .3rem 0 0;
  vertical-align: middle; }
table { border-collapse: collapse; font-size: .9rem; }
td, th { text-align: left; padding: .25rem .8rem .25rem 0; vertical-align: top;
  border-bottom: 1px solid var(--line); }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
.no { color: var(--bad); font-weight: 600; } .yes { color: var(--answer); font-weight: 600; }
pre { overflow-x: auto; background: var(--card); padding: .8rem; border-radius: .5rem; }
pre, td.time { font-family: ui-monospace, monospace; font-size: .8rem; white-space: nowrap; }
pre { white-space: pre; }
summary { cursor: pointer; color: var(--dim); margin: .4rem 0; }
"""
