// What the types of LiteRT.js name of WebGPU, which TypeScript's own do not have yet; the page uses none of it.
interface GPUDevice {}
interface GPUBuffer {}
