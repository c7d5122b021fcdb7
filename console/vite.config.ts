import { defineConfig } from "vitest/config";
import solid from "vite-plugin-solid";

export default defineConfig({
  plugins: [solid()],
  build: {
    target: "es2022",
    // `default-src 'self'` refuses data: URLs, so nothing may be inlined as one.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    reportCompressedSize: false,
  },
  server: {
    host: "127.0.0.1",
    port: 5173,
    // `npm run dev` beside a running daemon. Its Origin check sees the daemon's own address.
    proxy: {
      "/api": { target: "http://127.0.0.1:8470", changeOrigin: true, ws: true, headers: { Origin: "http://127.0.0.1:8470" } },
    },
  },
  test: { include: ["src/**/*.test.ts"], environment: "node" },
});
