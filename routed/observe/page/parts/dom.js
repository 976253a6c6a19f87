// Elements, made without ever parsing text as HTML: what comes from the server can only become text.

const SVG = "http://www.w3.org/2000/svg";

// Attributes that could run something, or that the content security policy forbids.
const FORBIDDEN = /^(on|style$|srcdoc$)/i;

/** An HTML element. `attributes`: name -> value; null, undefined and false leave it out, true is an empty
 *  value; `on` maps event types to listeners. Children are nodes, texts, or arrays of them; null is left out. */
export function h(tag, attributes = {}, ...children) {
  return furnish(document.createElement(tag), attributes, children);
}

/** An SVG element, as `h`. */
export function svg(tag, attributes = {}, ...children) {
  return furnish(document.createElementNS(SVG, tag), attributes, children);
}

function furnish(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name === "on") {
      for (const [type, listener] of Object.entries(value)) element.addEventListener(type, listener);
    } else {
      set(element, name, value);
    }
  }
  append(element, children);
  return element;
}

/** Set or remove an attribute. Links lead to places in this page, or to other files of this server. */
export function set(element, name, value) {
  if (FORBIDDEN.test(name)) throw new Error(`attribute ${name} is not for this page`);
  if (value === null || value === undefined || value === false) {
    element.removeAttribute(name);
    return;
  }
  const text = value === true ? "" : String(value);
  if (name === "href" && !/^[#/]/.test(text)) throw new Error("links stay in this page");
  if (element.getAttribute(name) !== text) element.setAttribute(name, text);
}

export function append(element, children) {
  for (const child of children.flat(Infinity)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : document.createTextNode(String(child)));
  }
}

/** Replace what is in an element. */
export function fill(element, ...children) {
  element.replaceChildren();
  append(element, children);
  return element;
}

/** As `fill`, but what is there stays where it is alike, with focus, selection and scrolling. For children
 *  without listeners: those that are there keep theirs. */
export function patch(element, ...children) {
  const wanted = element.cloneNode(false);
  append(wanted, children);
  morph(element, wanted);
  return element;
}

function morph(element, wanted) {
  const there = [...element.childNodes];
  const next = [...wanted.childNodes];
  next.forEach((node, at) => {
    const old = there[at];
    if (!old) element.append(node);
    else if (old.nodeName !== node.nodeName) old.replaceWith(node);
    else if (old.nodeType === Node.TEXT_NODE) {
      if (old.data !== node.data) old.data = node.data;
    } else {
      for (const { name } of [...old.attributes]) if (!node.hasAttribute(name)) old.removeAttribute(name);
      for (const { name, value } of node.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
      morph(old, node);
    }
  });
  for (const old of there.slice(next.length)) old.remove();
}

/** Change an element's text only where it differs, so that a screen reader and a selection are not disturbed. */
export function write(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** A listener that runs at most once a frame. */
export function oncePerFrame(work) {
  let asked = 0;
  return () => {
    if (asked) return;
    asked = requestAnimationFrame(() => {
      asked = 0;
      work();
    });
  };
}
