// Takes the pictures of the console for the documentation: node console-screenshots.mjs FOLDER

import { join } from 'node:path';

import { enter, go } from './console-page.mjs';
import { fill, startWorld } from './console-world.mjs';
import { launch } from './page.mjs';

const MOST_BYTES = 150_000;

const [folder] = process.argv.slice(2);
const world = await startWorld();
const browser = await launch();
try {
  const made = await fill(world);
  const pictures = [
    ['attention', '', 900, 'light'],
    ['person', `people/${made.jane}`, 900, 'light'],
    ['webhook-dark', `webhooks/${made.webhook}`, 900, 'dark'],
    ['attention-narrow', '', 400, 'light'],
  ];
  for (const [name, path, width, colorScheme] of pictures) {
    const options = { viewport: { width, height: 640 }, colorScheme };
    const { page, close } = await enter(browser, world.address, world.keys.acme, options);
    await go(page, world.address, path);
    const picture = await page.screenshot({ path: join(folder, `${name}.png`) });
    if (picture.length > MOST_BYTES) throw new Error(`${name}.png has ${picture.length} bytes`);
    console.log(`${name}.png: ${Math.ceil(picture.length / 1000)} kB`);
    await close();
  }
} finally {
  await browser.close();
  await world.stop();
}
