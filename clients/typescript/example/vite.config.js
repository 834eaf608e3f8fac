/** `vite build example` builds the page into `example/dist`. */
import { defineConfig } from 'vite';

export default defineConfig({
  build: {
    rolldownOptions: {
      // 'use client' means something to frameworks that render on a server. This page does not.
      onwarn: (warning, warn) => warning.code === 'MODULE_LEVEL_DIRECTIVE' || warn(warning),
    },
  },
});
