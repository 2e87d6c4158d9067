// Line icons, 16 by 16, drawn for this page. Each says what a colour alone must not say.

import type { JSX } from "preact";

const PATHS = {
  check: "M3.5 8.5 6.5 11.5 12.5 5",
  ok: "M8 1.8a6.2 6.2 0 1 1 0 12.4A6.2 6.2 0 0 1 8 1.8ZM5.2 8.2l2 2 3.6-4",
  warn: "M8 2.2 14.4 13.4H1.6ZM8 6.4v3.2M8 11.6v.1",
  bad: "M5.3 1.8h5.4l3.5 3.5v5.4l-3.5 3.5H5.3l-3.5-3.5V5.3ZM8 4.8v3.8M8 11v.1",
  work: "M8 2v2.4M8 11.6V14M2 8h2.4M11.6 8H14M3.8 3.8l1.7 1.7M10.5 10.5l1.7 1.7M3.8 12.2l1.7-1.7M10.5 5.5l1.7-1.7",
  wait: "M8 1.8a6.2 6.2 0 1 1 0 12.4A6.2 6.2 0 0 1 8 1.8ZM8 4.6V8l2.4 1.6",
  dot: "M8 5.2a2.8 2.8 0 1 1 0 5.6 2.8 2.8 0 0 1 0-5.6Z",
  stop: "M4.5 4.5h7v7h-7Z",
  pause: "M5.2 3.5v9M10.8 3.5v9",
  play: "M5 3.2v9.6L12.6 8Z",
  close: "M4 4l8 8M12 4l-8 8",
  upload: "M8 10.5V2.5M4.8 5.5 8 2.3l3.2 3.2M2.5 10.5v3h11v-3",
  download: "M8 2.5v8M4.8 7.5 8 10.7l3.2-3.2M2.5 10.5v3h11v-3",
  trash: "M2.8 4.3h10.4M6.2 4.3V2.6h3.6v1.7M4 4.3l.7 9.1h6.6l.7-9.1",
  retry: "M13 8a5 5 0 1 1-1.6-3.7M13.2 2v2.9h-2.9",
  pin: "M8 1.8 9.8 6l4.4.4-3.3 2.9 1 4.4L8 11.3l-3.9 2.4 1-4.4L1.8 6.4 6.2 6Z",
  copy: "M5.5 5.5v-3h8v8h-3M2.5 5.5h8v8h-8Z",
  film: "M2.5 2.5h11v11h-11ZM5.4 2.5v11M10.6 2.5v11M2.5 6h2.9M2.5 10h2.9M10.6 6h2.9M10.6 10h2.9",
  sun: "M8 5.2a2.8 2.8 0 1 1 0 5.6 2.8 2.8 0 0 1 0-5.6ZM8 1.5V3M8 13v1.5M1.5 8H3M13 8h1.5M3.4 3.4l1 1M11.6 11.6l1 1M3.4 12.6l1-1M11.6 4.4l1-1",
  moon: "M13.3 9.7A5.6 5.6 0 0 1 6.3 2.7a5.6 5.6 0 1 0 7 7Z",
  half: "M8 1.8a6.2 6.2 0 1 1 0 12.4A6.2 6.2 0 0 1 8 1.8ZM8 1.8v12.4M8 5h4.9M8 8h6.1M8 11h4.9",
  out: "M6.5 2.5h-4v11h4M10 4.8 13.2 8 10 11.2M13 8H6",
  eye: "M1.5 8S4 3.6 8 3.6 14.5 8 14.5 8 12 12.4 8 12.4 1.5 8 1.5 8ZM8 6.2a1.8 1.8 0 1 1 0 3.6 1.8 1.8 0 0 1 0-3.6Z",
  home: "M2 7.6 8 2.4l6 5.2M3.8 6.2v7.2h8.4V6.2",
  list: "M5.5 4h8M5.5 8h8M5.5 12h8M2.5 4h.1M2.5 8h.1M2.5 12h.1",
  letter: "M2 3.5h12v9H2ZM2 4l6 4.6L14 4",
  workers: "M8 2a2.4 2.4 0 1 1 0 4.8A2.4 2.4 0 0 1 8 2ZM3 13.6c0-3 2.2-4.6 5-4.6s5 1.6 5 4.6",
  pulse: "M1.5 8.5h3l2-5 3 9 2-4h3",
  bell: "M8 1.9a4 4 0 0 1 4 4c0 3.4 1.4 4.6 1.4 4.6H2.6S4 9.3 4 5.9a4 4 0 0 1 4-4ZM6.6 13a1.5 1.5 0 0 0 2.8 0",
  disk: "M2.5 4c0-1.1 2.5-2 5.5-2s5.5.9 5.5 2-2.5 2-5.5 2-5.5-.9-5.5-2ZM2.5 4v8c0 1.1 2.5 2 5.5 2s5.5-.9 5.5-2V4M2.5 8c0 1.1 2.5 2 5.5 2s5.5-.9 5.5-2",
  key: "M10.2 2.2a3.6 3.6 0 1 1-3 5.6L2 13v1h2.4v-1.8h1.8v-1.8h1.4l1-1M11 5v.1",
  book: "M3 2.5h8.5A1.5 1.5 0 0 1 13 4v9.5H4.5A1.5 1.5 0 0 1 3 12ZM3 12a1.5 1.5 0 0 1 1.5-1.5H13M6 5.5h4",
  down: "M4 6.2 8 10.2l4-4",
  left: "M10 3.5 5.5 8l4.5 4.5",
  right: "M6 3.5 10.5 8 6 12.5",
  plus: "M8 3v10M3 8h10",
  filter: "M2 3.5h12L9.4 9v4.2l-2.8-1.4V9Z",
} as const;

export type IconName = keyof typeof PATHS;

export function Icon({ name, size = 16 }: { name: IconName; size?: number }): JSX.Element {
  const solid = name === "play" || name === "stop" || name === "dot";
  return (
    <svg
      width={size}
      height={size}
      viewBox="0 0 16 16"
      fill={solid ? "currentColor" : "none"}
      stroke="currentColor"
      stroke-width={solid ? "0" : "1.5"}
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      <path d={PATHS[name]} />
    </svg>
  );
}

export function Logo(): JSX.Element {
  return (
    <svg width="22" height="22" viewBox="0 0 32 32" aria-hidden="true">
      <rect width="32" height="32" rx="8" fill="currentColor" />
      <rect x="11" y="6" width="10" height="20" rx="2.5" fill="#fff" />
      <path d="M14.5 12.5v7l5-3.5z" fill="currentColor" />
    </svg>
  );
}
