// What the console's pages do beyond what they do without script: times in the reader's zone, ids copied on click,
// live progress, a file dropped on a form, menus that close, forms that are sent once.

'use strict';

const all = (selector, root = document) => [...root.querySelectorAll(selector)];

/** Shows `<time datetime>` in the reader's zone; the title keeps what the server wrote. */
function localTimes(root) {
  const two = (number) => String(number).padStart(2, '0');
  for (const time of all('time[datetime]:not([title])', root)) {
    const at = new Date(time.dateTime);
    if (Number.isNaN(at.getTime())) continue;
    time.title = `${at.toISOString().replace('T', ' ').replace(/\.\d+Z|Z/, '')} UTC`;
    const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
    const seconds = /:\d\d:\d\d/.test(time.textContent) ? `:${two(at.getSeconds())}` : '';
    time.textContent = `${day} ${two(at.getHours())}:${two(at.getMinutes())}${seconds}`;
  }
  const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
  for (const place of all('[data-zone]', root)) place.textContent = `Times are in ${zone}.`;
}

/** Adds a button to an id that is worth copying, unless it is a link already. */
function copyButtons(root) {
  if (!navigator.clipboard) return;
  for (const source of all('[data-copy]', root)) {
    if (source.closest('a, button, summary')) continue;
    const text = source.dataset.copy || source.textContent.trim();
    const button = document.createElement('button');
    button.type = 'button';
    button.className = 'copy';
    button.setAttribute('aria-label', `Copy ${text}`);
    button.addEventListener('click', async () => {
      try {
        await navigator.clipboard.writeText(text);
      } catch {
        return; // The browser refused; the text can still be selected.
      }
      button.classList.add('done');
      say('Copied.');
      setTimeout(() => button.classList.remove('done'), 2000);
    });
    source.removeAttribute('data-copy');
    source.after(button);
  }
}

/** Says something to readers of the screen that they cannot see. */
function say(text) {
  const place = document.getElementById('said');
  if (place) place.textContent = text;
}

/** Follows an operation: counts and bar of `[data-live]` change with each event; at its end the page is read anew. */
function liveProgress(box) {
  const source = new EventSource(box.dataset.live);
  const show = (operation) => {
    const { total, ...counts } = operation.progress;
    let x = 0;
    for (const [name, count] of Object.entries(operation.progress)) {
      for (const place of all(`[data-count="${name}"]`, box)) place.textContent = count.toLocaleString('en');
    }
    for (const part of all('rect[data-part]', box)) {
      const width = total > 0 ? (100 * (counts[part.dataset.part] ?? 0)) / total : 0;
      part.setAttribute('x', x);
      part.setAttribute('width', width);
      x += width;
    }
    for (const bar of all('progress', box)) {
      bar.max = Math.max(total, 1);
      bar.value = total - (counts.pending ?? 0);
    }
  };
  const read = (event) => {
    const operation = JSON.parse(event.data);
    show(operation);
    if (operation.finishedAt) {
      source.close();
      location.reload();
    }
  };
  source.addEventListener('progress', read);
  addEventListener('pagehide', () => source.close());
}

/** Lets a file be dropped anywhere on the box of a file input. */
function dropFile(box) {
  const input = box.querySelector('input[type=file]');
  const over = (on) => (event) => {
    event.preventDefault();
    box.classList.toggle('over', on);
  };
  box.addEventListener('dragover', over(true));
  box.addEventListener('dragleave', over(false));
  box.addEventListener('drop', (event) => {
    over(false)(event);
    if (event.dataTransfer.files.length === 0) return;
    input.files = event.dataTransfer.files;
    input.dispatchEvent(new Event('change', { bubbles: true }));
  });
}

/** Closes open menus on Escape and on a click elsewhere. */
function menus() {
  const open = () => all('details.do-box[open]');
  document.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    for (const box of open()) {
      const inside = box.contains(document.activeElement);
      box.open = false;
      if (inside) box.querySelector('summary').focus();
    }
  });
  document.addEventListener('click', (event) => {
    for (const box of open()) if (!box.contains(event.target)) box.open = false;
  });
}

/** Sends each form once; the server would recognise the second by its key, but the reader sees that it is under way. */
function sendOnce(form) {
  form.addEventListener('submit', () => {
    // Later, since a disabled button is not part of what is sent.
    setTimeout(() => all('button', form).forEach((button) => (button.disabled = true)));
  });
}

/** Brings the current entry of a menu that scrolls into sight. */
function showCurrent() {
  const strip = document.querySelector('.menu ul');
  const current = strip?.querySelector('[aria-current]');
  if (current && strip.scrollWidth > strip.clientWidth) strip.scrollLeft = current.offsetLeft - strip.clientWidth / 3;
}

localTimes(document);
copyButtons(document);
menus();
showCurrent();
all('[data-live]').forEach(liveProgress);
all('.drop').forEach(dropFile);
all('form[method=post]').forEach(sendOnce);
// A page that comes back from the browser's cache has its buttons again.
addEventListener('pageshow', (event) => {
  if (event.persisted) all('button[disabled]').forEach((button) => (button.disabled = false));
});
