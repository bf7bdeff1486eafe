// What every module draws with: preact, its hooks, htm, and a memo.
import { h, render, Component, Fragment } from "./preact.module.js";
import htm from "./htm.module.js";

export { h, render, Component, Fragment };
export { useEffect, useLayoutEffect, useMemo, useRef, useState } from "./preact-hooks.module.js";

export const html = htm.bind(h);

/** Draw *inner* again only when one of its properties is another value. */
export function memo(inner) {
  return class extends Component {
    shouldComponentUpdate(next) {
      const old = this.props;
      const names = Object.keys(next);
      return names.length !== Object.keys(old).length || names.some((name) => next[name] !== old[name]);
    }
    render(props) {
      return h(inner, props);
    }
  };
}
